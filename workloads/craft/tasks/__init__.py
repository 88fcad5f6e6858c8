"""Labelled tasks: reading them, fine-tuning a student on them, scoring it; no Ray."""
