"""Checks for programs that tests need on the machine."""

import os

import pytest


def missing(program: str) -> None:
    """Skip a test whose program is not installed; fail it where ``CI`` is set, which must run every test."""
    message = f"{program} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
