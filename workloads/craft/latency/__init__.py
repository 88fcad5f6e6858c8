"""Latency measurements of models on a target."""
