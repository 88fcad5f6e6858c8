"""Shapes and costs of models: architectures, sub-spaces, teachers' files; no torch."""
