"""The methods: each is a short module that composes stages. Light to import."""

from workloads.methods import autodistil as autodistil  # registers itself when any module of this package is imported
