"""What systems that synthesise a contrast share: the control that any of them has to beat."""

from nbkit.papers.synthesis.linear import Config, LinearSynthesizer

__all__ = ["Config", "LinearSynthesizer"]
