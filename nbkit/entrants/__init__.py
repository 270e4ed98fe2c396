"""Models of one's own beside ours: a class with ``fit`` and ``predict`` (or ``synthesize``) in the user's own file.

What it is handed are copies, and of a person the history alone; what it gives is checked. Where it fails, the person
counts as *no change* (of a contrast: as the training mean), is counted, and nobody else's results move. Rank 6.
"""

from nbkit.entrants.forecasts import EnteredModel, Entrants, enter
from nbkit.entrants.strangers import Config, handed, require_methods
from nbkit.entrants.syntheses import EnteredSynthesizer, cross_validated, synthesizers

__all__ = [
    "Config", "EnteredModel", "EnteredSynthesizer", "Entrants", "cross_validated", "enter", "handed",
    "require_methods", "synthesizers",
]
