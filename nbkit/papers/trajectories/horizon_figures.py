"""Errors by years ahead, under their former name."""

from nbkit.papers.trajectories.figures import error_by_horizon, horizon_intervals

__all__ = ["error_by_horizon", "horizon_intervals"]
