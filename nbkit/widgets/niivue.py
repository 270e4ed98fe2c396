"""The optional 3D view: one NiiVue viewer, reused for every state, because browsers keep what a closed one held."""

from __future__ import annotations

import ipywidgets

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.widgets.explorer import Explorer, State


class Viewer:
    """The predicted brain in three cuts and in 3D, its change since baseline in colour.

    Parameters
    ----------
    explorer : Explorer
        With a way to write NIfTI files.
    height : int
        In pixels.

    Attributes
    ----------
    widget : ipywidgets.Widget
        The viewer.

    Raises
    ------
    NbkitError
        If ipyniivue is not installed.
    """

    def __init__(self, explorer: Explorer, *, height: int = 360) -> None:
        try:
            import ipyniivue
        except ImportError as error:
            raise NbkitError(
                "Viewer: 3D", expected="the package ipyniivue", found="none",
                remedy="Install it (pip install -e '.[viewer]' -c requirements.lock), or set view_3d = False.",
            ) from error
        self.explorer = explorer
        self.widget: ipywidgets.Widget = ipyniivue.NiiVue(height=height)

    def follow(self, state: State) -> None:
        """Show a state; one that the system refuses leaves the viewer empty."""
        if self.explorer.refusal(state):
            self.widget.load_volumes([])
            return
        person, image = self.explorer.people[state.person], self.explorer.outlook(state).image
        top = 0.95 * float(person.baseline.data.float().max())
        change = image.with_data(image.data.float() - person.baseline.data.float())
        before = list(self.widget.volumes)
        self.widget.load_volumes([
            self._layer(image, "brain", colormap="gray", cal_min=0.0, cal_max=top),
            self._layer(
                change, "change", colormap="warm", colormap_negative="winter", opacity=0.6, cal_min=top / 20,
                cal_max=top / 4,
            ),
        ])
        for volume in before:
            volume.close()

    def _layer(self, image: Volume, name: str, **options: object) -> dict[str, object]:
        # a viewer waits for ever on bytes whose name does not end in .nii
        return {"data": self.explorer.nifti(image, "image.nii"), "name": f"{name}.nii", **options}
