"""Requests: their models, parsing and checks; light to import."""

from workloads.spec import autodistil as autodistil  # its request is a member of the union, whoever parses one
