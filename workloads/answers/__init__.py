"""From scores to an answer: choosing, the frontier, latency and its prediction."""
