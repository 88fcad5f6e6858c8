"""Acceptance of requests: checks against this machine and the database, and the form in which they are kept."""
