"""Objectives: the losses between a student and its teacher, as sums of terms."""
