"""What every run works with: progress, leases, the cache of stages, failures."""
