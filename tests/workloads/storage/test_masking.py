"""Masking: texts that look like secrets, and secrets of the environment."""

import json
import logging

import pytest
import structlog

from services.logs import configure_logs
from workloads.storage.masking import mask, mask_all

KEY = "srk_0123abcd_" + "Ab-_" * 10 + "xyz"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"key {KEY}.", "key srk_0123abcd_***."),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("postgresql://u:pass%40word@host/db", "postgresql://u:***@host/db"),
        ("HF said hf_AbCdEfGhIjKlMnOpQr.", "HF said hf_***."),
        ("s3://b/x?secret_key=abc&region=eu", "s3://b/x?secret_key=***&region=eu"),
        ("s3://bucket/path and user@host", "s3://bucket/path and user@host"),
        ("tokens=5, srk_ and hf_small, 12:30@home", "tokens=5, srk_ and hf_small, 12:30@home"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "STILLROOM_RAY_TOKEN", "SOME_PASSWORD"])
def test_the_environments_secrets_are_masked_wherever_they_stand(monkeypatch, name):
    monkeypatch.setenv(name, "planted/value+1")
    assert mask("xplanted/value+1y") == "x***y"
    monkeypatch.setenv(name, "a")
    assert mask("a banana") == "a banana"


def test_the_databases_password_is_masked_as_it_is_written_and_as_it_is_meant(monkeypatch):
    monkeypatch.setenv("STILLROOM_DATABASE", "postgresql://u:pl%40nted-word@h/d")
    assert mask("pl@nted-word pl%40nted-word") == "*** ***"


def test_data_is_masked_at_any_depth_and_keeps_its_shape():
    data = {"a": [1, None, True, 2.5, f"x {KEY}"], "b": {"c": ("Bearer abcdef",)}}
    assert mask_all(data) == {"a": [1, None, True, 2.5, "x srk_0123abcd_***"], "b": {"c": ["Bearer ***"]}}


def test_logs_of_ours_and_of_libraries_hold_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "planted-hub-token")
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        configure_logs()
        try:
            raise ValueError(f"it quotes {KEY}")
        except ValueError:
            structlog.get_logger().exception("failed", url="x://u:pass@h", error=OSError("planted-hub-token"))
            logging.getLogger("some.library").exception("it has %s", "planted-hub-token")
    finally:
        root.handlers[:] = handlers
        structlog.reset_defaults()
    written = capsys.readouterr().err
    assert KEY not in written
    assert "planted-hub-token" not in written
    assert ":pass@" not in written
    event = json.loads(written.splitlines()[0])
    assert (event["event"], event["url"], event["error"]) == ("failed", "x://u:***@h", "***")
    assert "it quotes srk_0123abcd_***" in event["exception"]
    assert "ERROR some.library: it has ***" in written
