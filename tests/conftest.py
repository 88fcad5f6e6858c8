from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import s3, teachers


@pytest.fixture(scope="session")
def make_teacher() -> Callable[..., Path]:
    """`make_teacher(folder, family, ...)`; see tests/teachers.py."""
    return teachers.make_teacher


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A real S3 server with a bucket; see tests/s3.py."""
    with s3.serve(tmp_path_factory.mktemp("s3")) as server:
        yield server
