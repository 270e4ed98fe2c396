"""The controls of the explorer over its picture. Every control is reached with Tab and moved with the arrow keys."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets

from nbkit.widgets.explorer import ALONE, PLANES, Explorer, State
from nbkit.widgets.explorer_page import write_explorer
from nbkit.widgets.keys import EXPLORER_CLASS, KeyGuard

PIXELS_PER_INCH = 110
_KINDS = {".gz": "application/gzip", ".json": "application/json"}


class Panel:
    """Controls, and the picture that follows them.

    Parameters
    ----------
    explorer : Explorer
    start : State, optional
        What is shown first.
    also : widget with a method ``follow(state)``, optional
        Shown below, and told of every new state (:class:`nbkit.widgets.niivue.Viewer`).

    Attributes
    ----------
    box : ipywidgets.Widget
        What a notebook displays.
    controls : dict of str to ipywidgets.ValueWidget
        By the names of :class:`nbkit.widgets.explorer.State`.
    waited : float
        Milliseconds that the last picture took.
    """

    def __init__(self, explorer: Explorer, start: State | None = None, *, also: object | None = None) -> None:
        self.explorer = explorer
        start = start or explorer.start
        choices = {
            "person": list(explorer.people), "system": list(explorer.systems), "beside": [ALONE, *explorer.systems],
            "course": list(explorer.courses), "structure": list(explorer.structures), "plane": list(PLANES),
        }
        self.controls: dict[str, ipywidgets.ValueWidget] = {
            name: ipywidgets.Dropdown(options=options, value=getattr(start, name), description=name)
            for name, options in choices.items()
        }
        age = explorer.people[start.person].age
        self.controls["age"] = ipywidgets.FloatSlider(
            value=start.age, min=age, max=age + explorer.horizon, step=explorer.step, description="age (years)",
            readout_format=".1f", continuous_update=True, layout=ipywidgets.Layout(width="95%"),
        )
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="100%", max_width="900px"))
        self.words, self.links = ipywidgets.HTML(), ipywidgets.HTML()
        self.button = ipywidgets.Button(description="Download", disabled=explorer.save is None)
        self.button.on_click(self._offer)
        self._also = also
        rows = [ipywidgets.HBox([self.controls[n] for n in list(choices)[i:i + 3]]) for i in (0, 3)]
        foot = ipywidgets.HBox([self.button, self.links])
        below = [also.widget] if also else []
        parts = [*rows, self.controls["age"], self.words, self.picture, foot, *below, KeyGuard()]
        self.box = ipywidgets.VBox(parts).add_class(EXPLORER_CLASS)
        self.controls["person"].observe(self._new_person, "value")
        for control in self.controls.values():
            control.observe(self._show, "value")
        self._show()

    def moves(self, count: int = 8) -> list[float]:
        """Milliseconds from a move of the slider to its picture, at so many places; the slider ends as it began.

        Everything is predicted on the first way along them, and timed on the second.
        """
        slider, start = self.controls["age"], self.controls["age"].value
        steps = round(self.explorer.horizon / slider.step)
        waited = []
        for k in [*range(count), *range(count)]:
            slider.value = slider.min + slider.step * round(k * steps / (count - 1))
            waited.append(self.waited)
        slider.value = start
        return waited[count:]

    def write_page(self, folder: Path | str, *, years: Sequence[float], source: str = "", level: str = "") -> Path:
        """Write ``explorer.html``, which needs no kernel and opens at what is shown (:func:`write_explorer`)."""
        return write_explorer(self.explorer, folder, years=years, start=self.state, source=source,
                              restricted=level == "restricted")

    @property
    def state(self) -> State:
        """What is shown."""
        return State(**{name: control.value for name, control in self.controls.items()})

    def _new_person(self, change: Mapping[str, str]) -> None:
        slider, age = self.controls["age"], self.explorer.people[change["new"]].age
        with slider.hold_trait_notifications():
            slider.min, slider.max = min(age, slider.min), age + self.explorer.horizon
            slider.value = self.explorer.halfway(change["new"])
            slider.min = age

    def _show(self, change: Mapping[str, object] | None = None) -> None:
        if change and change["owner"] is not self.controls["age"]:
            self.words.value = "<span role='status'>predicting …</span>"
        began, state = time.perf_counter(), self.state
        buffer = io.BytesIO()
        # little compression: the picture travels to a browser on the same machine
        self.explorer.render(state).savefig(
            buffer, format="png", dpi=PIXELS_PER_INCH, pil_kwargs={"compress_level": 1},
        )
        self.picture.value = buffer.getvalue()
        self.links.value = ""
        self.waited = (time.perf_counter() - began) * 1000
        said = html.escape(self.explorer.readout(state))
        self.words.value = f"<span role='status'>{said} <small>({self.waited:.0f} ms)</small></span>"
        if self._also:
            self._also.follow(state)

    def _offer(self, _button: object) -> None:
        refusal = self.explorer.refusal(self.state)
        files = {} if refusal else self.explorer.files(self.state)
        self.links.value = html.escape(refusal) or " ".join(
            f'<a download="{html.escape(name)}" href="data:{_KINDS[Path(name).suffix]};base64,'
            f'{base64.b64encode(data).decode()}">{html.escape(name)}</a>' for name, data in files.items()
        )
