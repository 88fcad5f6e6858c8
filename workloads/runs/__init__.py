"""Runs on the cluster: drivers, and the workers that they start."""

import os

# libgomp reads it when PyTorch is loaded, so it is set before any module below this package imports PyTorch. With its
# own default, a thread spins for milliseconds while it waits for the others of its team. If they have no core just
# then, since services, drivers and other jobs run too, most of a step is spent so.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
