"""Evergreen's pipeline: the closed loop around a tabular model. Importing it does nothing."""

__version__ = "0.1.0"
