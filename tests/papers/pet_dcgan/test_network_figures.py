"""Drawings of the networks: every layer that runs is there, with the shape of what it made."""

from __future__ import annotations

import pandas as pd

from nbkit.papers.pet_dcgan.network_figures import drawings, loss_curves, method_drawing, network_drawing
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.settings import Config


def words(figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_text()]


def test_layers_are_those_that_ran_with_their_shapes():
    generator, critic = PetDCGAN(Config.for_profile("smoke", channels=3, kernel=3)).untrained()
    drawn, judged = words(network_drawing(generator)), words(network_drawing(critic))
    assert [w for w in drawn if w[0].isdigit() and w.endswith("²")] == ["4²", "8²", "16²", "32²"]
    assert [w for w in judged if w[0].isdigit() and w.endswith("²")] == ["32²", "16²", "8²", "4²"]
    assert drawn.count("deconv 3²\nstride 2\nBN, ReLU") == 2 and drawn.count("deconv 3²\nstride 2\ntanh") == 1
    assert judged.count("conv 3²\nstride 2\nLReLU") == 1 and judged.count("conv 3²\nstride 2\nBN, LReLU") == 2
    assert "16 channels" in drawn and "3 channels" in drawn and judged[-2:] == ["score", "1 channel"]


def test_batch_normalisation_of_the_first_layer_is_seen():
    _, critic = PetDCGAN(Config.for_profile("smoke", norm_first=True)).untrained()
    assert words(network_drawing(critic)).count("conv 5²\nstride 2\nBN, LReLU") == 3


def test_the_method_names_sizes_and_weights():
    generator, critic = PetDCGAN(Config.for_profile("smoke")).untrained()
    count = f"{sum(p.numel() for p in generator.parameters()):,}".replace(",", " ")
    said = words(method_drawing(generator, critic))
    assert f"generator\n{count} weights" in said and "synthetic image\n32² × 1" in said


def test_figures_have_their_numbers():
    nets = PetDCGAN(Config.for_profile("smoke")).untrained()
    found = drawings(*nets)
    assert list(found) == [2, 3, 5]
    assert [words(found[k][1]) for k in (3, 5)] == [words(network_drawing(net)) for net in nets]


def test_losses_stand_by_side_at_the_step_they_belong_to():
    frame = pd.DataFrame([(s, m, step, step + len(s)) for s in ("CN", "MCI") for m in ("generator", "discriminator")
                          for step in (1, 11, 21)], columns=["system", "metric", "step", "value"])
    figure = loss_curves(frame)
    assert [axes.get_title("left") for axes in figure.axes] == ["generator", "discriminator"]
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in drawn] == [[1, 11, 21]] * 2
    assert sorted(line.get_ydata()[0] for line in drawn) == [3, 4]
