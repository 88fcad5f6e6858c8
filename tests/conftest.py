from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import teachers


@pytest.fixture(scope="session")
def make_teacher() -> Callable[..., Path]:
    """`make_teacher(folder, family, ...)`; see tests/teachers.py."""
    return teachers.make_teacher
