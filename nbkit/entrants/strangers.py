"""A stranger's code in our hands: what it is told and handed, how it is called, and what of its images can be used."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

import numpy as np
import torch

from nbkit.core import entered
from nbkit.core.checks import counted, require
from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.seeds import derive
from nbkit.core.volume import Volume
from nbkit.figures.marks import enter

NOBODY = "No model of your own here: `MODEL=my_model.py:MyModel` enters one (README, \"Your own model, in Python\")."
_LONGEST = 120
_LOCK = RLock()


@dataclass(frozen=True)
class Config(Settings):
    """What a model of one's own is known by.

    Attributes
    ----------
    name : str
        Its attribute ``name``, else that of its class.
    source : str
        Digest of its file and of what that imports from its folder.
    told : str
        What its constructor was told, as JSON.
    seed : int
        Of the run.
    """

    name: str = ""
    source: str = ""
    told: str = "{}"
    seed: int = 0


class Wrong(Exception):
    """What somebody's model did, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


class Copies(Mapping):
    """Volumes by name, a fresh copy at every look: nobody can change what others are scored on."""

    def __init__(self, volumes: Mapping[str, Volume]) -> None:
        self._volumes = volumes

    def __getitem__(self, name: str) -> Volume:
        return copied(self._volumes[name])

    def __contains__(self, name: object) -> bool:
        return name in self._volumes

    def __iter__(self) -> Iterator[str]:
        return iter(self._volumes)

    def __len__(self) -> int:
        return len(self._volumes)


class _Handed(Scan):
    """A scan that is safe to give away."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return copied(value) if name == "labels" and value is not None else value


def copied(volume: Volume) -> Volume:
    """A volume that shares nothing with the original."""
    return Volume(volume.data.clone(), volume.affine.copy(), volume.history)


def copy_of(scan: Scan) -> Scan:
    """A scan whose volumes are copied whenever they are looked at."""
    return _Handed(**vars(scan) | {"images": Copies(scan.images), "masks": Copies(scan.masks)})


def handed(people: Cohort) -> Cohort:
    """Training people as a stranger's code gets them: copies, and nothing that a scanner does not know."""
    subjects = (replace(s, scans=tuple(map(copy_of, s.scans)), covariates=dict(s.covariates)) for s in people)
    return replace(people, subjects=tuple(subjects), truth={})


class Stranger:
    """A stranger's class in our clothes: made, called and checked here, whatever it does."""

    entered: ClassVar[bool] = True
    kind: type
    config: Config
    trained_on = ""

    def _made(self) -> Any:
        with self.guarded("its constructor"), self.own_dice():
            return self.kind(**json.loads(self.config.told))

    @contextmanager
    def guarded(self, where: str) -> Iterator[None]:
        """Whatever somebody's code raises is a fault of theirs, told with the line."""
        try:
            yield
        except Wrong:
            raise
        except (Exception, SystemExit) as error:
            line = _last_line(error, inspect.getsourcefile(self.kind) or "")
            said = f"{type(error).__name__}: {str(error).splitlines()[0][:_LONGEST] if str(error) else 'no message'}"
            raise Wrong(f"{where} raised {said}", f"Mend {line}.") from error

    @contextmanager
    def own_dice(self, *parts: object) -> Iterator[None]:
        """Random numbers of one's own in torch, numpy and random: the same whenever asked, and nobody else's move."""
        before, threads = (np.random.get_state(), random.getstate()), torch.get_num_threads()
        drawn = derive(self.config.seed, "entrant", *parts)
        with _LOCK, torch.random.fork_rng():
            torch.manual_seed(drawn)
            np.random.seed(drawn % 2**32)
            random.seed(drawn)
            try:
                yield
            finally:
                np.random.set_state(before[0])
                random.setstate(before[1])
                torch.set_num_threads(threads)

    def learned(self, cohort: Cohort) -> Any:
        """A new object of the class, fitted on copies of these people."""
        model = self._made()
        with self.guarded("fit"), self.own_dice("fit"):
            made = model.fit(handed(cohort))
        return model if made is None else made

    @property
    def keeps(self) -> bool:
        """Whether it can be saved and read back, so that it is not fitted in every run."""
        return all(callable(getattr(self.kind, name, None)) for name in ("save", "load"))


def usable(made: Any, like: Volume, least: float, where: str) -> Volume:
    """A stranger's image on the grid of `like`, or what is wrong with it.

    Parameters
    ----------
    made : Volume, tensor or array
        Shape (X, Y, Z), or with leading axes of one.
    like : Volume
    least : float
        Nothing may lie below it, nor below 0 where it is more.
    where : str
        The method that made it.
    """
    if isinstance(made, Volume) and made.shape == like.shape and np.abs(made.affine - like.affine).max() > 1e-2:
        raise Wrong(f"{where} gave an image with another affine", "Keep the affine: last.image('T1w').with_data(...).")
    data = made.data if isinstance(made, Volume) else made
    try:
        data = torch.as_tensor(data).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{where} gave a {type(made).__name__}", "Return Volumes, tensors or arrays.") from None
    while data.ndim > 3 and data.shape[0] == 1:
        data = data[0]
    if tuple(data.shape) != like.shape:
        said = "×".join(map(str, data.shape))
        raise Wrong(f"{where} gave the shape {said}, not {'×'.join(map(str, like.shape))}",
                    "Return images on the grid of the last scan, without batch or channels.")
    if bad := int((~torch.isfinite(data)).sum()):
        raise Wrong(f"{where} gave {bad} voxels that are NaN or infinite", "Look for a division by 0, or a fit astray.")
    if float(data.min()) < min(least, 0.0) - 1e-3:
        raise Wrong(f"{where} gave values below 0, {float(data.min()):.3g}", "Intensities are 0 or more: clamp(min=0).")
    if float(data.max()) <= float(data.min()):
        raise Wrong(f"{where} gave an image of one value", "Look whether its input was lost on the way.")
    return like.with_data(data.clone(), "entered")


def _last_line(error: BaseException, file: str) -> str:
    """The last line of somebody's file that an error went through."""
    trace, found = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = trace.tb_lineno
        trace = trace.tb_next
    return f"line {found} of {Path(file).name}" if found else Path(file).name or "the class"


def in_words(name: str, met: Mapping[str, tuple[str, str]], of: int, instead: str) -> str:
    """For how many people a model had no usable answer, why, and what to do about it."""
    reasons: dict[str, int] = {}
    for what, remedy in met.values():
        reasons[f"{what}. {remedy}"] = reasons.get(f"{what}. {remedy}", 0) + 1
    return f"**{name}** has no usable answer for {len(met)} of {of} people, who count as {instead}: {counted(reasons)}"


def known_by(kind: type, address: str, options: Mapping[str, Any]) -> Config:
    """Name and source of a class, and of `options` those that its constructor names; it gets a colour of its own.

    Raises
    ------
    NbkitError
        For a name that one of our systems has, or that is no name.
    """
    name = str(getattr(kind, "name", kind.__name__))
    require(
        re.fullmatch(r"[A-Za-z][\w-]*", name) is not None, f"{kind.__name__}: name", found=repr(name),
        expected="a letter, then letters, digits, '_' or '-'",
        remedy="Give the class an attribute such as name = \"my_model\": it becomes part of ids.",
    )
    enter(name)
    names = inspect.signature(kind).parameters if kind.__init__ is not object.__init__ else {}
    told = {key: value for key, value in options.items() if key in names}
    return Config(name, entered.source_digest(address), json.dumps(told), int(options.get("seed", 0)))


def require_methods(text: str) -> None:
    """Refuse an address where no class with ``fit`` and ``predict`` or ``synthesize`` and a free name is.

    Raises
    ------
    NbkitError
        With the name of the class.
    """
    for address in entered.addresses(text):
        kind = entered.load(address)
        there = [n for n in ("fit", "predict", "synthesize") if callable(getattr(kind, n, None))]
        require(
            "fit" in there and len(there) > 1, f"MODEL: {kind.__name__}", found=", ".join(there) or "neither",
            expected="the methods fit(cohort) and predict(history, ages, diagnosis) or synthesize(contrasts, *, mask)",
            remedy="Add them; README, \"Your own model, in Python\", shows a class to copy.",
        )
        known_by(kind, address, {})
