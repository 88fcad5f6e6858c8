"""Both clients, over real connections: the calls that they repeat, and the servers that get their key."""

import json
import logging
import time

import pytest

from services.client import ApiError, ServerUnreachableError
from tests.services.clients import Answer
from workloads.spec.errors import InputError

KEY = "srk_01234567_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"


def _problem(status, **fields):
    body = {"code": "x", "title": "t", "status": status, "detail": f"It says {status}."} | fields
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "first",
    [Answer(429, b""), Answer(502, b"<html>"), Answer(503, _problem(503)), Answer(hang_up=True), Answer(length=999)],
    ids=["429", "502", "503", "hangs up", "cut off"],
)
def test_what_does_no_harm_twice_is_asked_again(drive, script, first):
    server = script(first, first, Answer())
    assert drive(server.url, lambda client: client.latency_targets()) == []
    assert len(server.requests) == 3


def test_a_submission_is_sent_again_under_the_same_key_and_others_have_their_own(drive, script):
    server = script(Answer(503, _problem(503)), Answer(422, _problem(422, errors=[])))
    for given in (None, None, "mine"):
        with pytest.raises(ApiError, match="422"):
            drive(server.url, lambda client, given=given: client.submit({"a": 1}, key=given))
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys[-1] == "mine"
    assert {body for *_, body in server.requests} == {b'{"a":1}'}


@pytest.mark.parametrize("name", ["cancel", "resume", "delete"])
def test_what_might_do_harm_twice_is_sent_once(drive, script, name):
    server = script(Answer(503, _problem(503)))
    with pytest.raises(ApiError, match="503"):
        drive(server.url, lambda client: getattr(client, name)("cmp_1"))
    assert len(server.requests) == 1


def test_the_pause_that_a_server_asks_for_is_kept_unless_it_is_longer_than_the_patience(drive, script):
    server = script(Answer(429, _problem(429), {"Retry-After": "1"}), Answer())
    begun = time.monotonic()
    drive(server.url, lambda client: client.latency_targets())
    assert time.monotonic() - begun >= 1
    server = script(Answer(429, _problem(429), {"Retry-After": "4"}), Answer())
    begun = time.monotonic()
    with pytest.raises(ApiError, match="429"):
        drive(server.url, lambda client: client.latency_targets(), patience=3.5)
    assert time.monotonic() - begun < 3.5
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_asked_as_long_as_the_patience_says(drive, unused_port):
    told = []

    def work(client):
        client.set_patience(1.5, told.append)
        return client.ready()

    begun = time.monotonic()
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        drive(f"http://127.0.0.1:{unused_port}", work, patience=0)
    assert 0.2 < time.monotonic() - begun < 10
    assert len(told) >= 2


def test_a_refusal_brings_the_problem_with_its_fields(drive, script):
    errors = [{"field": "seed", "pointer": "/seed", "problem": "It is no number.", "remedy": "Give one."}]
    server = script(Answer(422, _problem(422, code="invalid_request", errors=errors)))
    with pytest.raises(ApiError, match="It says 422") as refused:
        drive(server.url, lambda client: client.submit({}))
    assert refused.value.problem.code == "invalid_request"
    assert [(one.field, one.remedy) for one in refused.value.errors] == [("seed", "Give one.")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>hello"), "as no stillroom of this version does"),
        (Answer(404, b"<html>hello"), "<html>hello"),
        (Answer(308, b"", {"Location": "https://elsewhere/"}), "elsewhere"),
    ],
)
def test_what_is_no_stillroom_is_told_so(drive, script, answer, words):
    server = script(answer)
    with pytest.raises(ApiError, match=words) as refused:
        drive(server.url, lambda client: client.get("x"))
    assert refused.value.problem.code == "other"
    assert len(server.requests) == 1


def test_an_address_that_is_none_is_told_so(drive):
    for server in ("localhost:8000", "http://[::1", "ftp://host"):
        with pytest.raises(InputError, match="http://host:port"):
            drive(server, lambda client: client.ready())


def test_ids_cannot_lead_to_other_routes(drive, script):
    server = script(Answer(404, _problem(404)))
    with pytest.raises(ApiError):
        drive(server.url, lambda client: client.get("cmp_1/students?x=1#"))
    assert server.requests[0][1] == "/v1/compressions/cmp_1%2Fstudents%3Fx%3D1%23"


def test_the_key_goes_into_the_header_and_nowhere_else(drive, script, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server = script(Answer(503, _problem(503)), Answer())
    drive(server.url, lambda client: client.latency_targets(), api_key=f" {KEY}\n")
    monkeypatch.setenv("STILLROOM_API_KEY", KEY)
    drive(server.url, lambda client: client.latency_targets())
    drive(server.url, lambda client: client.latency_targets(), api_key="")
    assert [headers.get("Authorization") for _, _, headers, _ in server.requests] == [f"Bearer {KEY}"] * 3 + [None]
    client = drive.kind("http://127.0.0.1:9", patience=0)
    with pytest.raises(ServerUnreachableError) as error:
        drive(client.server, lambda client: client.ready(), patience=0)
    assert KEY not in f"{client!r} {client} {vars(client)} {error.value!r} {caplog.text}"


@pytest.mark.parametrize("key", ["srk_secret\r\nX: y", "srk_secret\u2026", "srk secret"])
def test_a_key_that_cannot_be_one_is_refused_without_quoting_it(drive, key):
    with pytest.raises(InputError, match="STILLROOM_API_KEY") as error:
        drive("http://127.0.0.1:9", lambda client: client.ready(), api_key=key)
    assert "secret" not in str(error.value)
