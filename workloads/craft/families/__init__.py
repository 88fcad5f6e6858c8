"""Families of teachers: one module each, with the same few functions."""
