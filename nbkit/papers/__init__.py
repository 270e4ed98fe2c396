"""One paper, one folder: the systems, the experiments, the figures and what was published. Rank 4.

Papers know nothing of each other, except of ``trajectories`` and ``synthesis``: what systems of one kind share.
"""
