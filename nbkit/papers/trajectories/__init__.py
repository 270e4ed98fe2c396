"""What systems that age a brain share, and the head-to-head that no paper has: all on the same people.

``controls`` and ``pixel_regression`` are what every system owes a difference from, ``regional_segmenter`` reads volumes
from images, ``experiments`` scores predicted visits and ``calibration`` their uncertainty. ``design`` and
``head_to_head`` compare all systems, ``ranking`` says who stands where, ``figures`` draws it. ``outlooks`` are what the
explorer asks for, ``scan_noise`` how far two scans of one person lie apart.

What the comparison asks: which system tells a person's later scan and volumes best, from one scan and from several,
when all learn from the same people and are measured alike? Beside them stand controls that know no method (no change,
the population's mean change) and what others printed of BrLP and its rivals.
"""

from nbkit.papers.trajectories import scan_noise
from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.papers.trajectories.pixel_regression import PixelRegression
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter

__all__ = ["Hindsight", "NoChange", "Outlook", "PixelRegression", "RegionalSegmenter", "scan_noise"]
