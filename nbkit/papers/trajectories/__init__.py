"""What systems that age a brain share: controls, scores, intervals, the reader of volumes, outlooks and the ranking."""

from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.papers.trajectories.pixel_regression import PixelRegression
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter

__all__ = ["Hindsight", "NoChange", "Outlook", "PixelRegression", "RegionalSegmenter"]
