"""Finished searches in memory; they answer new budgets and frontiers."""
