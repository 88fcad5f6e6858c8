"""The Ray cluster: connecting to it and sizing a run for it."""
