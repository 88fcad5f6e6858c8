"""Access control: callers, their keys and their limits."""
