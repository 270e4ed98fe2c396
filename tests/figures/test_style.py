"""The look: distinct with any colour vision, private to nbkit, sized in mm."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from nbkit.figures.marks import SYNTHESIS, marks, title_of
from nbkit.figures.style import look, new_figure, wrapped

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB
MACHADO = {
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
}


def _seen(colour: str, matrix: np.ndarray) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    out = np.clip(matrix @ linear, 0, 1)
    return rgb2lab(np.where(out <= 0.0031308, 12.92 * out, 1.055 * out ** (1 / 2.4) - 0.055)[None, None])[0, 0]


@pytest.mark.parametrize("vision", MACHADO)
def test_published_systems_are_told_apart_with_any_colour_vision(vision):
    seen = [_seen(SYNTHESIS[n].colour, MACHADO[vision]) for n in ("rf", "mp", "mlp", "unet", "fcn", "truth")]
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(seen, 2)) > 9


def test_colour_is_never_the_only_difference():
    assert len({m.marker for m in SYNTHESIS.values()}) == len({m.colour for m in SYNTHESIS.values()}) == len(SYNTHESIS)


def test_unknown_names_get_colours_no_known_system_of_the_figure_uses():
    made = marks(["fcn", "mine", "yours"])
    assert made["fcn"] is SYNTHESIS["fcn"]
    assert len({m.colour for m in made.values()}) == 3
    assert made == marks(["fcn", "mine", "yours"])


def test_look_leaves_the_users_settings_alone():
    before = mpl.rcParams["font.size"]
    with look():
        assert mpl.rcParams["font.size"] == 8.0 != before
    assert mpl.rcParams["font.size"] == before


def test_figures_are_sized_in_mm_and_show_themselves_without_pyplot(tmp_path):
    figure = new_figure(100, 50)
    figure.add_subplot().plot([0, 1])
    assert np.allclose(figure.get_size_inches() * 25.4, (100, 50))
    shown, _ = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.png")
    figure.savefig(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name, title", [
    ("fcn", "3D FCN"), ("T2w", "T2-w"), ("t1_t2_dir", "T1-w + T2-w + DIR"), ("no_pd", "without PD"),
    ("nawm", "normal-appearing WM"), ("no_model", "no_model"), ("my_net", "my_net"),
])
def test_titles(name, title):
    assert title_of(name) == title


def test_wrapping_keeps_every_word():
    assert wrapped("Modality propagation", 28.0) == "Modality\npropagation"
    assert wrapped("FLAIR", 5.0) == "FLAIR"
