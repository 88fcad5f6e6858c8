"""Measuring latency on named targets."""
