"""Scoring candidates under budgets with a Ray Tune scheduler."""
