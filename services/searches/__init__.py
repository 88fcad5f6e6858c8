"""Finished searches in memory: new budgets and frontiers answered from them."""
