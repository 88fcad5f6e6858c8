"""Common parts of all runs: progress, leases, the cache of stages, failures."""
