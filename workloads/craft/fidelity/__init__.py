"""Fidelity: how often a student's answers differ from its teacher's, on the same rows."""
