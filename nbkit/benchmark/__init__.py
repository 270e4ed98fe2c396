"""A benchmark that anyone can enter: a task written as a plain BIDS data set, forecasts of any tool judged on one page.

Rank 7: above papers, cohorts and export. ``nbkit benchmark write`` gives out what may be seen; ``nbkit benchmark
judge`` reads what came back, checks it, and scores it beside our controls and systems.
"""
