"""Requests accepted: checked against this machine and the database, and made into what is kept."""
