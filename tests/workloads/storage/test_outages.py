"""Outages told apart from permanent errors, by the real errors of the libraries."""

from __future__ import annotations

import errno
import importlib
import os
import socket
from collections.abc import Iterator

import httpx
import pyarrow.fs as pafs
import pytest

from workloads.spec.errors import InputError
from workloads.storage.outages import UnreachableError, cannot_use, is_outage


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, and that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_an_s3_server_that_does_not_listen_is_an_outage(closed_port: int) -> None:
    s3 = pafs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{closed_port}",
        scheme="http",
        access_key="a",
        secret_key="b",
        region="here",
        connect_timeout=1,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    with pytest.raises(OSError) as caught:
        s3.get_file_info("bucket/key")
    assert is_outage(caught.value)


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_a_hub_s_http_library_that_finds_no_server_tells_of_an_outage(client: str, closed_port: int) -> None:
    library = importlib.import_module(client)  # huggingface_hub brings httpx2
    with pytest.raises(library.HTTPError) as caught:
        library.get(f"http://127.0.0.1:{closed_port}/", timeout=5)
    assert is_outage(caught.value)


@pytest.mark.parametrize(("state", "passes"), [(503, True), (500, True), (429, True), (404, False), (403, False)])
def test_of_the_answers_of_a_server_those_are_outages_that_speak_of_itself(state: int, passes: bool) -> None:
    request = httpx.Request("GET", "http://hub/")
    error = httpx.HTTPStatusError("no", request=request, response=httpx.Response(state, request=request))
    assert is_outage(error) is passes


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.ENOENT, errno.EROFS, errno.EISDIR], ids=os.strerror
)
def test_a_file_system_that_refuses_is_none(number: int) -> None:
    assert not is_outage(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH], ids=os.strerror)
def test_a_file_system_that_has_lost_its_server_is_one(number: int) -> None:
    assert is_outage(OSError(number, os.strerror(number)))


def test_a_hub_that_is_switched_off_by_a_setting_is_none() -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    assert not is_outage(OfflineModeIsEnabled("HF_HUB_OFFLINE is set"))


def test_the_error_is_of_the_kind_that_the_cause_deserves() -> None:
    away = cannot_use("corpus.paths", "It is away.", "Wait.", ConnectionResetError())
    broken = cannot_use("corpus.paths", "It is broken.", "Mend it.", ValueError())
    assert (type(away), type(broken)) == (UnreachableError, InputError)
    assert str(away) == "corpus.paths: It is away. Wait."
