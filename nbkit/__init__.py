"""nbkit: the reproducible companion to five papers that simulate how brains age and fall ill."""

__version__ = "0.1.0"
