"""What systems that synthesise a contrast share: their settings, patches, and the control to beat."""

from nbkit.papers.synthesis.linear import Config, LinearSynthesizer

__all__ = ["Config", "LinearSynthesizer"]
