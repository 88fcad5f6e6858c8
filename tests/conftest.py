from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import s3, teachers


def _own_ray_token() -> None:
    """Give this session's Ray clusters their own token; Ray reads the authentication mode once, at import."""
    folder = Path(tempfile.mkdtemp(prefix="sr-token-"))
    (folder / "token").write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


_own_ray_token()
os.environ |= s3.ENVIRONMENT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests with a Ray cluster in one worker: a cluster takes every CPU."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker("alone")


@pytest.fixture(scope="session")
def make_teacher() -> Callable[..., Path]:
    """`make_teacher(folder, family, ...)`; see tests/teachers.py."""
    return teachers.make_teacher


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A real S3 server with a bucket; see tests/s3.py."""
    with s3.serve(tmp_path_factory.mktemp("s3")) as server:
        yield server
