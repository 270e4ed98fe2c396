"""What a recipe of training reaches in a fixed time of one core: an earlier one beside today's, on people kept back.

The earlier ones are those of laptop's first profile (2026-11-21 to 2026-11-30). Each has as many epochs as fit into
``NBKIT_RECIPE_SECONDS``, so that its learning rate falls to zero in that time. FLAIR's FCN is not here: crops one
by one or four by four teach it alike (.126 and .127 of the variance after own scale and offset, 5 and 11 s; linear
regression .073).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nbkit.cohorts import cohort_for
from nbkit.core.device import one_thread
from nbkit.core.protocols import Cohort
from nbkit.data.pet_slices import slice_table
from nbkit.data.splits import folds, person_of
from nbkit.papers.mrextrap import mrextrap
from nbkit.papers.myelin import synthesis as myelin
from nbkit.papers.pet_dcgan import Config as DCGANConfig
from nbkit.papers.pet_dcgan import PetDCGAN, experiments

SECONDS = float(os.environ.get("NBKIT_RECIPE_SECONDS", "120"))
KEPT_BACK = 6
Trained = Callable[[int], float]
"""``trained(epochs)``: the error on people kept back, after so many epochs."""


def sides(task: str, learn: int) -> tuple[Cohort, Cohort]:
    """People to learn from and others; nothing is kept in the cache, or the second training would take no time."""
    people = cohort_for("embedded", task=task, profile="laptop")
    people = replace(people, provenance={k: v for k, v in people.provenance.items() if k != "data_hash"})
    return people.subset(people.ids[:learn]), people.subset(people.ids[-KEPT_BACK:])


def missed(model: Any, people: Cohort, target: str) -> float:
    """Mean squared error of a contrast inside the brain over its variance there, mean over people."""
    shares = []
    for scan in (person.baseline for person in people):
        mask = scan.mask("brain")
        inside = mask.data.bool()
        true, made = scan.image(target).data[inside], model.synthesize(scan.images, mask=mask).data[inside]
        shares.append(float((made - true).square().mean() / true.var()))
    return sum(shares) / len(shares)


def autoencoder(**changes: Any) -> Trained:
    """MRExtrap's, without its prior: mean absolute error inside the brain over the largest training value."""
    learn, others = (
        [scan for person in side for scan in person.scans] for side in sides("ageing", 34))
    joins = changes.pop("joins", 0.8)

    def trained(epochs: int) -> float:
        config = mrextrap.Config.for_profile("laptop", epochs=epochs, adversarial_from=round(joins * epochs), **changes)
        model = mrextrap.MRExtrap(config)
        model._train(learn, others[::5])
        return model.history["validation"][-1]

    return trained


def unet(**changes: Any) -> Trained:
    """The plain U-Net of notebook 02."""
    learn, others = sides("myelin", 19)

    def trained(epochs: int) -> float:
        config = myelin.Config.named("unet", "laptop", epochs=epochs, **changes)
        return missed(myelin.MyelinSynthesizer(config).fit(learn), others, "DVR")

    return trained


def dcgan(**changes: Any) -> Trained:
    """Notebook 07's network for each stage: squared Fréchet distance from people never seen, mean over stages."""
    people = cohort_for("embedded", task="pet", profile="laptop")
    split = folds(people, 2, seed=7, group_of=person_of)[0]
    table = slice_table(people, per_view=3, size=DCGANConfig.for_profile("laptop").size)
    train, others = (table.select(subjects=ids) for ids in (split.train_ids, split.test_ids))

    def trained(epochs: int) -> float:
        model = PetDCGAN(DCGANConfig.for_profile("laptop", epochs=epochs, snapshots=2, **changes)).fit(train)
        drawn = experiments.draw_like(model, others, seed=7)
        found = experiments.feature_scores(drawn, train=train, held_out=others)
        rows = found[(found["metric"] == "frechet") & (found["system"] == "generated")]
        return float(rows["value"].mean())

    return trained


RECIPES: dict[str, tuple[Callable[..., Trained], dict[str, Any]]] = {
    "autoencoder": (autoencoder, {
        "widths": (16, 16, 32), "stem": 1, "gradient_weight": 0.0, "perceptual_late": False, "joins": 0.5,
        "flips": False, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "linear", "warm_up": 0,
        "averaged": None,
    }),
    "U-Net": (unet, {"norm": "batch", "learning_rate": 6e-3}),
    "DCGAN": (dcgan, {
        "widths": (64, 32, 16, 8), "critic_widths": (8, 16, 32, 64), "learning_rate": 1e-3, "views_told": False,
        "averaged": 0.0,
    }),
}
"""What is trained, and what the earlier recipe sets otherwise."""


def epochs_within(trained: Trained, seconds: float) -> int:
    """Epochs that fit: one training of a few epochs and one of twice as many tell what an epoch takes."""
    few, taken = 2, [0.0, 0.0]
    while taken[1] - taken[0] < 0.02 * seconds:
        few *= 2
        for i in range(2):
            start = time.process_time()
            trained(few * (i + 1))
            taken[i] = time.process_time() - start
    return max(few, round(seconds * few / (taken[1] - taken[0])))


@pytest.mark.parametrize("name", list(RECIPES))
def test_today_reaches_more_in_the_same_time(name, capsys):
    make, before = RECIPES[name]
    found = {}
    with one_thread():
        for recipe, changes in (("before", before), ("today", {})):
            trained = make(**changes)
            epochs = epochs_within(trained, SECONDS)
            found[recipe] = trained(epochs), epochs
    with capsys.disabled():
        told = ", ".join(f"{recipe} {error:.4g} ({epochs} epochs)" for recipe, (error, epochs) in found.items())
        print(f"\n{name} after {SECONDS:.0f} s of one core, on people kept back: {told}")
    assert found["today"][0] < found["before"][0]
