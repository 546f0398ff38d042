"""leptond: a GPU scheduler for one machine."""

__version__ = "0.1.0"
