"""Plans: estimates of a request's time, before any work."""
