"""Headless runs: notebooks executed, claims judged, one report. The only package that knows papermill."""
