"""The pictures of the paper: its network, lesions found on true and synthetic images, and saliency maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.stats import MIN_SUBJECTS, bootstrap_mean
from nbkit.core.tidy import paired, where
from nbkit.core.volume import Volume
from nbkit.figures.charts import bounds, forest_plot, interval_text
from nbkit.figures.drawing import Layer, architecture_drawing
from nbkit.figures.learning import learning_curves
from nbkit.figures.marks import title_of
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.published import printed
from nbkit.figures.sheets import comparison_rows
from nbkit.figures.slices import difference_scale, grey_scale, view_of
from nbkit.figures.style import FULL_MM, Picture
from nbkit.papers.flair.conv_synthesis import Config
from nbkit.papers.flair.lesion_experiments import METHOD
from nbkit.papers.flair.setting_experiments import LONG


def method_drawing(config: Config) -> Picture:
    """The fully convolutional network of `config` at its published width (Wei 2019, Fig. 2.2)."""
    names = [f"features {i}" for i in range(1, config.depth + 1)]
    hidden = [Layer(name, config.width, "conv 3×3×3\nReLU") for name in names]
    first = Layer("input", len(config.inputs), sheets=config.inputs)
    return architecture_drawing([first, *hidden, Layer("output", 1, "conv 3×3×3", sheets=(config.target,))])


def method_examples(
    patients: Sequence[Subject], predictions: Mapping[str, Mapping[str, Volume]], *, width_mm: float = FULL_MM
) -> Picture:
    """Synthetic and true FLAIR of several patients, with the differences (Fig. 2.4).

    Parameters
    ----------
    patients : sequence of Subject
    predictions : mapping of subject to image by system
    """
    rows = []
    for patient in patients:
        scan = patient.baseline
        masks = {name: scan.mask(name) for name in ("brain", "lesions")}
        rows += comparison_rows(scan.image("FLAIR"), predictions[patient.id], truth_name="True FLAIR", **masks)
    return panel(rows, width_mm=width_mm)


def method_pictures(
    patients: Sequence[Subject], predictions: Mapping[str, Mapping[str, Volume]]
) -> Iterator[tuple[str, Picture, str]]:
    """Name, picture and caption of Fig. 2.4, of modality propagation and of the network trained for longer.

    Propagation copies noise voxel by voxel: beside the others it takes the scale of the differences. Fig. 2.4 shows the
    longer training that follows each image's own scale, so that what a laptop lacks can be told from what the network
    cannot do; both longer trainings stand in the last.
    """
    said = "patients of median lesion load"
    others = _those(predictions, lambda name: name not in ("mp", "longer"))
    both = all("longer_own" in images for images in others.values())
    added = "; one FCN trained for longer, on images scaled by themselves" if both else ""
    yield "fig2_4", method_examples(patients, others), f"Figure 2.4. Synthetic and true FLAIR{added}, {said}"
    copied, longer = (_those(predictions, names.__contains__) for names in (("mp",), tuple(LONG)))
    if all(copied.values()):
        yield "fig2_4_propagation", method_examples(patients, copied), f"Beside Figure 2.4: propagation, {said}"
    if all(longer.values()):
        yield "fig2_4_longer", method_examples(patients, longer), f"Beside Figure 2.4: trained for longer, {said}"


def _those(
    predictions: Mapping[str, Mapping[str, Volume]], wanted: Callable[[str], bool]
) -> dict[str, dict[str, Volume]]:
    """Everybody's images of the systems that are `wanted`."""
    return {who: {n: image for n, image in made.items() if wanted(n)} for who, made in predictions.items()}


def differences(
    frame: pd.DataFrame, xlabel: str, ends: Mapping[str, float], *, better: tuple[str, str],
    published: Mapping[str, float] | None = None, seed: int = 0,
) -> Picture:
    """:func:`nbkit.figures.charts.forest_plot` of paired errors, with what could be reached at all as lines.

    `ends` is of :func:`nbkit.papers.flair.experiments.lines`, as differences too; such systems and the mean, whose
    error dwarfs the others, are no rows.
    """
    rows = frame[~frame["system"].isin(["mean", "person", "floor", "reach", "reach_tenfold"])]
    figure = forest_plot(rows, xlabel, better=better, published=published, seed=seed)
    bounds(figure.axes[0], ends, along="x")
    return figure


def table_differences(
    errors: pd.DataFrame, ends: Mapping[str, float], published: Mapping[str, Any], *, seed: int = 0
) -> Iterator[tuple[str, Picture, str]]:
    """Name, picture and caption of Table 2.2 as differences to the FCN: MSE, and SSIM with the published means beside.

    The printed MSE is in the units of their scanner, ours in z².
    """
    said, method, ours = "Difference to the FCN per subject, mean and 95 % interval", "the method", "the FCN"
    gaps, label = paired(where(errors, metric="mse"), against="fcn"), "MSE of the method − MSE of the FCN (z²)"
    yield "table2_2_differences", differences(gaps, label, ends, better=(method, ours), seed=seed), f"{said}: MSE"
    gaps, label = paired(where(errors, metric="ssim"), against="fcn"), "SSIM of the method − SSIM of the FCN"
    means = printed(published, "wei2019.table2_2b.ssim", against="fcn")
    figure = differences(gaps, label, {}, better=(ours, method), published=means, seed=seed)
    yield "table2_2_ssim_differences", figure, f"{said}: SSIM"


def moved_table(scores: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """`choices` (by name of a system) with what the other way of each moves: mean difference of the error, interval."""
    moved = paired(where(scores, metric="mse"), against="fcn").groupby("system")["value"]
    said = moved.agg(lambda values: interval_text(bootstrap_mean(values)))
    return choices.assign(**{"other − this run, MSE in z² [95 % interval]": said})


def depth_curves(frame: pd.DataFrame, ends: Mapping[str, float]) -> Picture:
    """Validation error along training by number of layers (Fig. 2.3); lines: floor and reach over all test people."""
    figure = learning_curves(frame, "validation MSE (z²)")
    bounds(figure.axes[0], ends)
    return figure


def lesion_examples(
    cohort: Cohort, synthetic: Mapping[str, Volume], found: Mapping[str, Mapping[str, Volume]],
    agreement: pd.DataFrame, *, width_mm: float = FULL_MM,
) -> Picture:
    """True FLAIR and the FCN's with the lesions found on each, of the highest and lowest Dice (Fig. 2.5).

    Each image has its own window, because a prediction's offset is no error of its anatomy; the offset is told. Of
    fewer than six patients highest and lowest mean little: the rows say so.

    Parameters
    ----------
    cohort : Cohort
    synthetic : mapping of subject to Volume
    found : mapping of subject to masks
        Of :func:`nbkit.papers.flair.lesion_experiments.lesions_found`.
    agreement : DataFrame
        Of :func:`nbkit.papers.flair.lesion_experiments.agreement`.
    """
    dice = where(agreement, metric="dice", system=METHOD).set_index("subject")["value"].sort_values()
    few = f" of {len(dice)}" if len(dice) < MIN_SUBJECTS else ""
    shown = {f"highest{few}": dice.index[-1]} | ({f"lowest{few}": dice.index[0]} if len(dice) > 1 else {})
    rows = [
        _lesion_row(cohort.subject(s).baseline, synthetic[s], found[s], f"{said}\nDice {dice[s]:.2f}")
        for said, s in shown.items()
    ]
    heads = ("True FLAIR", "its lesions (red)", "Predicted FLAIR", "its lesions (red)")
    titled = Row(tuple(replace(t, title=" ".join(filter(None, (h, t.title)))) for t, h in
                       zip(rows[0].tiles, heads, strict=True)), rows[0].label)
    return panel([titled, *rows[1:]], width_mm=width_mm)


def _lesion_row(scan: Scan, synthetic: Volume, found: Mapping[str, Volume], label: str) -> Row:
    image, brain = scan.image("FLAIR"), scan.mask("brain")
    view, inside = view_of(brain, found["truth"]), brain.data.bool()
    true, predicted = (Tile(v, view, grey_scale(v, brain)) for v in (image, synthetic))
    # in SDs of the true image: the windows hide it
    offset = float((synthetic.data[inside].mean() - image.data[inside].mean()) / image.data[inside].std())
    off = replace(predicted, title=f"(offset {offset:+.1f} SD)".replace("-", "−"))
    lesions = replace(true, fill=found["truth"]), replace(predicted, fill=found[METHOD])
    return Row((true, lesions[0], off, lesions[1]), label)


def saliency_sheet(
    saliency: Mapping[str, Volume], inputs: Mapping[str, Volume], *, brain: Volume, lesions: Volume | None = None,
    label: str = "|∂ loss / ∂ input| (per z)", width_mm: float = FULL_MM,
) -> Picture:
    """P3S maps on one common scale, above the images they belong to (Wei 2019, Eq. 2.3 and Fig. 2.6).

    Parameters
    ----------
    saliency, inputs : mapping of str to Volume
        By contrast; every contrast of `saliency` must be among `inputs`.
    brain, lesions : Volume
        Masks on the same grid.
    label : str
        What the colours mean, with the unit.
    """
    missing = [name for name in saliency if name not in inputs]
    require(
        not missing, "saliency_sheet: inputs", expected=f"the image of {', '.join(saliency)}",
        found=f"none for {', '.join(missing)}", remedy="Pass the inputs the maps were computed for.",
    )
    view = view_of(brain, lesions)
    heat = replace(difference_scale(saliency.values(), brain, label=label), cmap="magma")
    above = Row(tuple(Tile(v, view, heat, title_of(n)) for n, v in saliency.items()), "saliency")
    below = Row(tuple(Tile(inputs[n], view, grey_scale(inputs[n], brain)) for n in saliency), "input")
    return panel([above, below], width_mm=width_mm)
