"""Training SuperLMs and polishing students on Ray Train."""
