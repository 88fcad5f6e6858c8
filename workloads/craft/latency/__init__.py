"""Measuring how long a model takes, as a target says."""
