"""What a request would take, before any work."""
