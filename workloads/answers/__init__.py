"""Answers from scores: choosing, the frontier, latency and its prediction."""
