"""Both clients against broken or hostile servers: each call ends with a message, and only students are accepted."""

import contextlib
import io
import tarfile
import time
from pathlib import Path

import pytest

from services.client import ApiError, ServerUnreachableError, call, connection, following
from tests.services.clients import Answer
from workloads.spec.errors import InputError

STREAM = {"Content-Type": "text/event-stream"}
EVENT = '{"attempt": 1, "sequence": %d, "time": "t", "type": "note", "message": "m", "data": {}}'


def _tar(*members, end=True, kind=tarfile.REGTYPE, link=""):
    """An archive of (name, content) pairs."""
    made = io.BytesIO()
    for name, content in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        made.write(info.tobuf(tarfile.PAX_FORMAT))
        made.write(content + bytes(-len(content) % 512) if kind == tarfile.REGTYPE else b"")
    return made.getvalue() + (bytes(1024) if end else b"")


GOOD = ("stu_1/config.json", b"{}")


@pytest.mark.parametrize("extract", [True, False])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>sign in, please</html>", "not a readable archive"),
        (b"", "not a readable archive"),
        (b"\x1f\x8b" + bytes(600), "not a readable archive"),
        (_tar(("stu_1", b"a single file")), "not part of stu_1"),
        (_tar(("stu_1/weights.bin", b"x")), "config.json"),
        (_tar(GOOD, ("../evil", b"x")), "not part of stu_1"),
        (_tar(GOOD, ("/etc/evil", b"x")), "not part of stu_1"),
        (_tar(GOOD, ("stu_1/../../evil", b"x")), "not part of stu_1"),
        (_tar(GOOD, ("stu_2/config.json", b"x")), "not part of stu_1"),
        (_tar(GOOD, GOOD), "twice"),
        (_tar(("stu_1/link", b""), kind=tarfile.SYMTYPE, link="/etc/passwd"), "neither a file nor a folder"),
        (_tar(("stu_1/link", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"), "neither a file nor a folder"),
        (_tar(("stu_1/pipe", b""), kind=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (_tar(GOOD, end=False), "cut off"),
        (_tar(GOOD, ("stu_1/weights.bin", bytes(2000)), end=False)[:-1024], "cut off"),
    ],
)
def test_an_archive_that_is_no_students_is_not_taken(drive, script, tmp_path, body, words, extract):
    _is_not_taken(drive, script(Answer(body=body)), tmp_path, words, extract)


def test_an_archive_whose_names_collide_when_it_is_unpacked_is_not_taken(drive, script, tmp_path):
    body = _tar(GOOD, ("stu_1/config.json/x", b"x"))
    _is_not_taken(drive, script(Answer(body=body)), tmp_path, None, extract=True)


def _is_not_taken(drive, server, tmp_path, words, extract):
    (tmp_path / "stu_1").mkdir()
    (tmp_path / "stu_1" / "old").write_text("old")
    with pytest.raises(ApiError, match=words):
        drive(server.url, lambda client: client.download("cmp_1", "stu_1", tmp_path, extract=extract))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "stu_1"]
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("student", ["..", ".", "", "a/b", "../stu_1", "stu_1\0", "-x", "stu 1", "x" * 200])
def test_an_id_that_would_be_another_folders_name_is_refused(drive, script, tmp_path, student):
    server = script(Answer(body=_tar(GOOD)))
    with pytest.raises(InputError, match="not the id of a student"):
        drive(server.url, lambda client: client.download("cmp_1", student, tmp_path / "to"))
    assert server.requests == []


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(416, b"")],
        [Answer(200, _tar(GOOD)[:600], {"ETag": '"a"'}, 2048), Answer(416, b"")],
        [Answer(206, _tar(GOOD), {"Content-Range": "bytes 0-2047/2048"})],
    ],
    ids=["416 for ever", "416 after a part", "a part that nobody asked for"],
)
def test_a_server_that_never_gives_the_whole_comes_to_an_end(drive, script, tmp_path, answers):
    server = script(*answers)
    with pytest.raises(ApiError):
        drive(server.url, lambda client: client.download("cmp_1", "stu_1", tmp_path))
    assert len(server.requests) <= 4
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_place_is_not_put_behind_what_is_there(drive, script, tmp_path):
    whole = _tar(GOOD, ("stu_1/weights.bin", bytes(range(256)) * 8))
    lying = Answer(206, whole[700:], {"Content-Range": f"bytes 700-{len(whole) - 1}/{len(whole)}", "ETag": '"a"'})
    server = script(Answer(200, whole[:600], {"ETag": '"a"'}, len(whole)), lying, Answer(200, whole))
    found = drive(server.url, lambda client: client.download("cmp_1", "stu_1", tmp_path))
    assert (found / "weights.bin").read_bytes() == bytes(range(256)) * 8
    assert [headers.get("Range") for _, _, headers, _ in server.requests] == [None, "bytes=600-", None]


def test_a_body_that_cannot_be_decoded_or_is_endless_is_told(drive, script, monkeypatch):
    server = script(Answer(200, b"no gzip", {"Content-Encoding": "gzip"}))
    with pytest.raises(ApiError, match="as no stillroom"):
        drive(server.url, lambda client: client.me())
    server = script(Answer(200, b'{"a": "' + b"x" * (65 << 20)))
    with pytest.raises(ApiError, match="longer than 64 MiB"):
        drive(server.url, lambda client: client.me())


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id": 3}', b"\xff\xfe", b"null", b'{"compressions": {}}', b""])
def test_documents_of_another_shape_are_told(drive, script, body):
    for answer in (Answer(200, body), Answer(422, body)):
        server = script(answer)
        with pytest.raises(ApiError):
            drive(server.url, lambda client: client.page())


@pytest.mark.parametrize("after", ["nan", "inf", "-inf", "1e400", "Mon, 99 Foo 99999 99:99:99 GMT", "\u00e9"])
def test_a_pause_that_makes_no_sense_is_not_kept(drive, script, after):
    server = script(Answer(503, b"", {"Retry-After": after}), Answer())
    begun = time.monotonic()
    assert drive(server.url, lambda client: client.latency_targets()) == []
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"data: {garbage\n\n", "not an event"),
        (b"data: []\n\n", "not an event"),
        (b'data: {"attempt": "x"}\n\n', "not an event"),
        (b"data: " + b"x" * (5 << 20), "line"),
        (b"".join(b"f%d: x\n" % number for number in range(200)), "fields"),
    ],
)
def test_a_stream_of_garbage_is_told(drive, script, body, words):
    server = script(Answer(200, body, STREAM))
    with pytest.raises(ApiError, match=words):
        drive(server.url, lambda client: client.stream_events("cmp_1"))


def test_streams_that_give_the_same_again_and_again_come_to_an_end(drive, script, monkeypatch):
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.01)
    again = Answer(200, f": hello\n\ndata: {EVENT % 1}\n\n".encode(), STREAM)
    server = script(again, again, again, Answer(404, b"gone"))
    with pytest.raises(ApiError, match="gone"):
        drive(server.url, lambda client: client.stream_events("cmp_1"))
    assert len(server.requests) == 4


def test_a_comment_within_a_message_does_not_break_it(drive, script):
    body = f"event: note\n: comment\ndata: {EVENT % 1}\n\nevent: end\ndata: {{}}\n\n"
    server = script(Answer(200, body.encode(), STREAM))
    found = drive(server.url, lambda client: client.stream_events("cmp_1"))
    assert [event.sequence for event in found] == [1]


def test_pages_of_events_that_lead_in_a_circle_come_to_an_end(drive, script):
    page = f'{{"events": [{EVENT % 1}], "next": "1-1", "last": "1-1"}}'.encode()
    server = script(Answer(200, page))
    with pytest.raises(ApiError, match="circle"):
        drive(server.url, lambda client: client.past_events("cmp_1"))
    assert len(server.requests) == 2


def test_a_server_that_hangs_up_for_ever_comes_to_an_end(drive, script, tmp_path):
    server = script(Answer(hang_up=True))
    with pytest.raises(ServerUnreachableError):
        drive(server.url, lambda client: client.download("cmp_1", "stu_1", tmp_path), patience=0.1)


def _endless(piece, every=0.0):
    """A body without a length and without an end, as a hostile server sends it; tests end with the client's hang-up."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(every)
        return Answer(hang_up=True)

    return answer


DOWNLOADS = [
    lambda folder: lambda client: client.download("cmp_1", "stu_1", folder),
    lambda _: lambda client: client.archive("cmp_1", "stu_1"),
    lambda _: lambda client: client.file("cmp_1", "stu_1", "config.json"),
]


@pytest.mark.parametrize("ask", DOWNLOADS, ids=["download", "archive", "file"])
def test_an_endless_download_ends_at_its_bound_and_the_setting_is_told(drive, script, tmp_path, ask):
    server = script(_endless(b"x" * 10_000))
    with pytest.raises(ApiError, match=r"longer than 1,000,000 bytes.*max_download_bytes.*--max-bytes"):
        drive(server.url, ask(tmp_path), max_download_bytes=1_000_000)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


ANSWERS = [
    lambda client: client.get("cmp_1"),
    lambda client: client.page(),
    lambda client: client.picture("cmp_1", "frontier.png"),
    lambda client: client.log("cmp_1"),
    lambda client: client.past_events("cmp_1"),
]


@pytest.mark.parametrize("ask", ANSWERS, ids=["a job", "a list", "a picture", "a log", "events"])
def test_an_endless_answer_ends_at_the_length_that_a_document_may_have(drive, script, monkeypatch, ask):
    monkeypatch.setattr(call, "MAX_DOCUMENT_BYTES", 1 << 20)
    with pytest.raises(ApiError, match="longer than 1 MiB"):
        drive(script(_endless(b"x" * 10_000)).url, ask)


@pytest.mark.parametrize("ask", [ANSWERS[0], DOWNLOADS[0](Path())], ids=["a job", "a download"])
def test_a_silent_server_is_told_with_the_timeout(drive, script, monkeypatch, tmp_path, ask):
    monkeypatch.chdir(tmp_path)
    server = script(_endless(b"x", every=3))
    with pytest.raises(ServerUnreachableError, match=r"silent for 0.2 s, which is the client's timeout"):
        drive(server.url, ask, timeout=0.2, patience=0)


@pytest.mark.parametrize("ask", [ANSWERS[0], DOWNLOADS[0](Path())], ids=["a job", "a download"])
def test_an_answer_that_comes_a_byte_at_a_time_for_ever_breaks_off(drive, script, monkeypatch, tmp_path, ask):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "SLOW_SECONDS", 0.3)
    server = script(_endless(b"x", every=0.02))
    with pytest.raises(ServerUnreachableError, match=r"sent \d+ bytes in \d+ s"):
        drive(server.url, ask, patience=0)
