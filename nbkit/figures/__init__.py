"""Figures and tables from arrays, volumes and plain mappings; each function returns a figure and shows nothing."""
