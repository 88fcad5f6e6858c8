"""The one contract: what a request says, checked; light to import."""

from workloads.spec import autodistil as autodistil  # its request is a member of the union, whoever parses one
