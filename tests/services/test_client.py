"""Both clients, over real connections: what they ask again, whom they tell their key, and what they leave on disk."""

import asyncio
import inspect
import json
import logging
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from services.client import ApiError, AsyncStillroomClient, ServerUnreachableError, StillroomClient, place_of
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.test_event_stream import Run
from workloads.errors import InputError
from workloads.job_folder import ResultDocument, StudentDocument

KEY = "srk_01234567_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
TARGETS = '{"latency_targets": []}'


@dataclass
class Answer:
    """What a server says to one request; a body shorter than ``length`` is cut off."""

    status: int = 200
    body: bytes = TARGETS.encode()
    headers: dict = field(default_factory=dict)
    length: int | None = None
    hang_up: bool = False


@dataclass
class Scripted:
    """A server that gives one answer after the other, the last for ever, and remembers what it was asked."""

    answers: list
    requests: list = field(default_factory=list)
    url: str = ""


@pytest.fixture
def script():
    running = []

    def start(*answers):
        found = Scripted(list(answers))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found.requests.append((self.command, self.path, dict(self.headers), body))
                answer = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
                if callable(answer):
                    answer = answer(self)
                if answer.hang_up:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(answer.length or len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = answer.length is not None

            do_POST = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        found.url = f"http://127.0.0.1:{server.server_port}"
        return found

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


class Blocking:
    """Drives the synchronous client."""

    kind = StillroomClient

    def __call__(self, url, work, **options):
        with StillroomClient(url, **options) as client:
            found = work(client)
            return list(found) if inspect.isgenerator(found) else found


class Awaiting:
    """Drives the asynchronous client through the same work."""

    kind = AsyncStillroomClient

    def __call__(self, url, work, **options):
        async def run():
            async with AsyncStillroomClient(url, **options) as client:
                found = work(client)
                return [item async for item in found] if inspect.isasyncgen(found) else await found

        return asyncio.run(run())


@pytest.fixture(params=[Blocking, Awaiting], ids=["blocking", "awaiting"])
def drive(request):
    return request.param()


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
    assert time.monotonic() - begun < 2
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_asked_as_long_as_the_patience_says(drive, unused_port):
    told = []

    def work(client):
        client.wait_for_server(1.5, told.append)
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


# Students on disk


@pytest.fixture
def student(service, make_request):
    """A succeeded compression with a student of 3 MB."""
    job = service.work.begin_attempt(service.store.create(make_request()).id)
    service.storage.write_bytes("artifacts/student/a/config.json", b"{}")
    service.storage.write_bytes("artifacts/student/a/sub/weights.bin", bytes(range(256)) * 12_000)
    shape = {"layers": 1, "hidden_size": 8, "intermediate_size": 16, "heads": 2, "head_width": 4, "source_layers": [0]}
    found = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=shape, params=1, flops=1, sequence_length=128,
        heldout_loss=0.5, files="artifacts/student/a",
    )  # fmt: skip
    result = ResultDocument(status="succeeded", students=[found])
    service.work.end_attempt(job.id, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=[])
    return job.id


def _through(target, change):
    """Answers as the real server does, but as ``change`` makes of it."""

    def answer(handler):
        headers = {name: handler.headers[name] for name in ("Last-Event-ID",) if name in handler.headers}
        got = httpx.get(f"{target}{handler.path}", headers=headers)
        return change(Answer(got.status_code, got.content, {"Content-Type": got.headers["Content-Type"]}))

    return answer


def _names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_student_is_unpacked_or_kept_as_a_tar(drive, client, student, tmp_path):
    told = []

    def work(extract):
        return lambda client: client.download(
            student, "stu_1", tmp_path / "to", extract=extract, progress=lambda *far: told.append(far)
        )

    assert drive(client.server, work(True)) == tmp_path / "to" / "stu_1"
    assert drive(client.server, work(False)) == tmp_path / "to" / "stu_1.tar"
    assert _names(tmp_path / "to") == [
        "stu_1", "stu_1.tar", "stu_1/config.json", "stu_1/sub", "stu_1/sub/weights.bin",
    ]  # fmt: skip
    assert (tmp_path / "to/stu_1/sub/weights.bin").read_bytes() == bytes(range(256)) * 12_000
    size = (tmp_path / "to/stu_1.tar").stat().st_size
    assert told[-1] == (size, size)
    assert len(told) > 4


def test_a_download_that_breaks_off_begins_anew_and_ends_whole(drive, script, client, student, tmp_path):
    def cut(answer):
        return Answer(200, answer.body[:1_000_000], answer.headers, len(answer.body))

    whole = _through(client.server, lambda answer: answer)
    server = script(_through(client.server, cut), _through(client.server, cut), whole)
    drive(server.url, lambda client: client.download(student, "stu_1", tmp_path))
    assert len(server.requests) == 3
    assert (tmp_path / "stu_1/sub/weights.bin").stat().st_size == 3_072_000


def test_a_download_that_cannot_be_finished_leaves_what_was_there(drive, script, client, student, tmp_path):
    def cut(answer):
        return Answer(200, answer.body[:1_000_000], answer.headers, len(answer.body))

    folder = tmp_path / "to"
    (folder / "stu_1").mkdir(parents=True)
    (folder / "stu_1" / "old").write_text("old")
    server = script(_through(client.server, cut))
    with pytest.raises(ServerUnreachableError):
        drive(server.url, lambda client: client.download(student, "stu_1", folder))
    with pytest.raises(ApiError, match="no student stu_2"):
        drive(client.server, lambda client: client.download(student, "stu_2", folder))
    with pytest.raises(InputError):
        drive(client.server, lambda client: client.download(student, "../stu_1", folder))
    assert _names(folder) == ["stu_1", "stu_1/old"]
    drive(client.server, lambda client: client.download(student, "stu_1", folder))
    assert _names(folder) == ["stu_1", "stu_1/config.json", "stu_1/sub", "stu_1/sub/weights.bin"]


# Events


@pytest.fixture
def ended(service, make_request):
    run = Run(service, service.store.create(make_request()).id)
    run.begin()
    for message in ("one", "two", "three"):
        run.tell(message)
    run.end()
    return run.id


def test_events_come_each_once_whichever_client_follows(drive, client, ended):
    found = drive(client.server, lambda client: client.stream_events(ended))
    assert [place_of(event) for event in found] == ["1-1", "1-2", "1-3"]
    assert [e.message for e in drive(client.server, lambda client: client.stream_events(ended, "1-2"))] == ["three"]


def test_where_streams_do_not_come_through_events_are_asked_for(drive, script, client, service, make_request):
    run = Run(service, service.store.create(make_request()).id)
    run.begin()
    run.tell("one")
    server = script(_through(client.server, lambda answer: answer))  # whatever is asked for, it gives JSON

    def later():
        time.sleep(1.5)
        run.tell("two")
        run.end()

    ending = threading.Thread(target=later)
    ending.start()
    found = drive(server.url, lambda client: client.stream_events(run.id))
    ending.join()
    assert [event.message for event in found] == ["one", "two"]
    paths = [path.partition("?")[0] for _, path, _, _ in server.requests]
    assert paths.count(f"/v1/compressions/{run.id}") >= 2


def test_streams_that_say_nothing_are_given_up_for_asking(drive, script, client, ended):
    def silent(handler):
        if "text/event-stream" in handler.headers.get("Accept", ""):
            return Answer(200, b"", {"Content-Type": "text/event-stream"})
        return _through(client.server, lambda answer: answer)(handler)

    server = script(silent)
    found = drive(server.url, lambda client: client.stream_events(ended, "1-1"))
    assert [event.message for event in found] == ["two", "three"]
    assert len(server.requests) == 4


def test_a_message_that_is_cut_off_is_neither_lost_nor_given_twice(drive, script, client, ended):
    whole = httpx.get(
        f"{client.server}/v1/compressions/{ended}/events", headers={"Accept": "text/event-stream"}
    ).content
    middle = whole.index(b'"two"')
    kind = {"Content-Type": "text/event-stream"}
    server = script(
        Answer(200, whole[:middle], kind), Answer(200, whole[:middle], kind, len(whole)), Answer(200, whole, kind)
    )
    found = drive(server.url, lambda client: client.stream_events(ended))
    assert [event.message for event in found] == ["one", "two", "three"]
    assert [headers["Last-Event-ID"] for _, _, headers, _ in server.requests] == ["0-0", "1-1", "1-1"]


def test_leaving_a_stream_early_closes_its_connection(client, service, make_request):
    run = Run(service, service.store.create(make_request()).id)
    run.begin()
    run.tell("one")

    async def first():
        async with AsyncStillroomClient(client.server) as other:
            async for event in other.stream_events(run.id):
                return event.message
        return None

    stream = client.stream_events(run.id)
    assert next(stream).message == "one"
    stream.close()
    assert asyncio.run(asyncio.wait_for(first(), 10)) == "one"
    with pytest.raises(InputError, match="1-12"):
        next(client.stream_events(run.id, "x"))
