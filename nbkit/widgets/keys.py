"""Keys pressed in the explorer stay in it: JupyterLab's shortcuts would take them.

In its command mode an arrow key in a menu would select the next cell, and D pressed twice would delete one. Shortcuts
pass over elements that carry ``data-lm-suppress-shortcuts``, which ipywidgets cannot set.
"""

from __future__ import annotations

import anywidget

EXPLORER_CLASS = "nbkit-explorer"


class KeyGuard(anywidget.AnyWidget):
    """Invisible; inside a box of the class :data:`EXPLORER_CLASS` it keeps the keys of that box from JupyterLab."""

    _esm = """
    export default {
      render({ el }) {
        const guard = (box) => {
          box.querySelectorAll("select, button, input, a, [tabindex]").forEach(
            (part) => part.setAttribute("data-lm-suppress-shortcuts", "true"));
          box.querySelectorAll("img").forEach((img) => { img.alt = "What the line above says, as a picture"; });
        };
        // the box may not be on the page yet, and parts of it come later
        const begin = () => {
          const box = el.closest(".nbkit-explorer");
          if (!box) { requestAnimationFrame(begin); return; }
          guard(box);
          new MutationObserver(() => guard(box)).observe(box, { childList: true, subtree: true });
        };
        begin();
      },
    };
    """
