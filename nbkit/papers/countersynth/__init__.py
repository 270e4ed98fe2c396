"""CounterSynth (Pombo et al., Medical Image Analysis 84:102723, 2023): counterfactual brains by deformation alone.

What the paper claims: a conditional generator of diffeomorphic deformations gives volumetric scans the changes that
go with other labels (age, sex), plausibly enough that scans so made, added to the training data, make predictors
fairer and better. Others compare it as a forecaster: BrLP's tables, and the stars of an article on InBrainSyn.

``countersynth`` is the system, ``networks`` its generator and the network that judges (critic and predictor of the
labels in one), ``conditions`` what both are told, ``losses`` what they lose, ``augment`` how scans are varied. Sizes
and weights are those of the public code, whose default is no test of the paper's own (see ``countersynth.Config``).
"""

from nbkit.papers.countersynth.countersynth import Config, CounterSynth

__all__ = ["Config", "CounterSynth"]
