"""Where it runs: connecting to Ray and sizing a run to it."""
