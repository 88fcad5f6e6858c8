"""Downloads of students by both clients: whole or not at all, and never fetched twice."""

import pytest

from services.client import ApiError, ServerUnreachableError
from services.jobs.records import NewJob
from tests.services.clients import Answer, through
from tests.services.ending import succeed
from workloads.documents.job_folder import ResultDocument, StudentDocument
from workloads.spec.errors import InputError


@pytest.fixture
def student(service, make_request):
    """A succeeded compression with a student of 3 MB."""
    job = service.work.begin_attempt(service.store.create(NewJob(make_request())).id)
    service.storage.write_bytes("artifacts/student/a/config.json", b"{}")
    service.storage.write_bytes("artifacts/student/a/sub/weights.bin", bytes(range(256)) * 12_000)
    shape = {"layers": 1, "hidden_size": 8, "intermediate_size": 16, "heads": 2, "head_width": 4, "source_layers": [0]}
    found = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=shape, params=1, flops=1, sequence_length=128,
        heldout_loss=0.5, files="artifacts/student/a",
    )  # fmt: skip
    result = ResultDocument(status="succeeded", students=[found])
    succeed(service.work, job.id, result)
    return job.id


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


def _cut(answer):
    """Give the answer of a connection that breaks after a megabyte."""
    return Answer(answer.status, answer.body[:1_000_000], answer.headers, len(answer.body))


def _without_tag(answer):
    return Answer(answer.status, answer.body, {"Content-Type": answer.headers["Content-Type"]})


def _ranges(server):
    return [headers.get("Range") for _, _, headers, _ in server.requests]


def _is_whole(folder):
    return (folder / "stu_1/sub/weights.bin").read_bytes() == bytes(range(256)) * 12_000


def test_a_download_that_breaks_off_goes_on_where_it_was(drive, script, client, student, tmp_path):
    told, cut = [], through(client.server, _cut)
    server = script(cut, cut, cut, through(client.server, lambda answer: answer))
    drive(
        server.url, lambda client: client.download(student, "stu_1", tmp_path, progress=lambda *far: told.append(far))
    )
    assert _ranges(server) == [None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-"]
    assert _is_whole(tmp_path)
    assert sorted(told) == told and {total for _, total in told} == {told[-1][0]}


def test_a_download_that_always_breaks_off_ends_as_long_as_it_gets_further(drive, script, client, student, tmp_path):
    few = through(client.server, lambda answer: Answer(
        answer.status, answer.body[:400_000], answer.headers, len(answer.body) + (len(answer.body) > 400_000)
    ))  # fmt: skip
    server = script(few)
    drive(server.url, lambda client: client.download(student, "stu_1", tmp_path))
    assert len(server.requests) > 4
    assert _is_whole(tmp_path)


def test_where_nothing_says_that_it_is_still_the_same_a_download_begins_anew(drive, script, client, student, tmp_path):
    cut = through(client.server, lambda answer: _cut(_without_tag(answer)))
    server = script(cut, cut, through(client.server, _without_tag))
    drive(server.url, lambda client: client.download(student, "stu_1", tmp_path))
    assert _ranges(server) == [None, None, None]
    assert _is_whole(tmp_path)
    server = script(cut)
    with pytest.raises(ServerUnreachableError):
        drive(server.url, lambda client: client.download(student, "stu_1", tmp_path / "new"))
    assert (_ranges(server), _names(tmp_path / "new")) == ([None] * 4, [])


@pytest.fixture
def unfinished(drive, script, client, student, tmp_path):
    """Folder with an abandoned download of a megabyte, and an older copy of the student."""
    folder = tmp_path / "to"
    (folder / "stu_1").mkdir(parents=True)
    (folder / "stu_1" / "old").write_text("old")
    server = script(through(client.server, _cut), Answer(hang_up=True))
    with pytest.raises(ServerUnreachableError):
        drive(server.url, lambda client: client.download(student, "stu_1", folder), patience=0)
    part, *others = _names(folder)
    assert (part.startswith(".stu_1."), others) == (True, ["stu_1", "stu_1/old"])
    return folder


def test_a_download_that_cannot_be_finished_leaves_what_was_there_and_is_gone_on_with(
    drive, script, client, student, unfinished
):
    server = script(through(client.server, lambda answer: answer))
    drive(server.url, lambda client: client.download(student, "stu_1", unfinished))
    assert _ranges(server) == ["bytes=1000000-"]
    assert _names(unfinished) == ["stu_1", "stu_1/config.json", "stu_1/sub", "stu_1/sub/weights.bin"]
    assert _is_whole(unfinished)


def test_a_part_of_what_has_changed_since_is_thrown_away(drive, script, client, service, student, unfinished):
    service.storage.write_bytes("artifacts/student/a/sub/weights.bin", b"new")
    server = script(through(client.server, lambda answer: answer))
    drive(server.url, lambda client: client.download(student, "stu_1", unfinished))
    assert (_ranges(server), (unfinished / "stu_1/sub/weights.bin").read_bytes()) == (["bytes=1000000-"], b"new")
    assert len(_names(unfinished)) == 4


def test_a_part_that_can_be_none_is_thrown_away(drive, script, client, student, unfinished):
    (part,) = unfinished.glob(".stu_1.*")
    part.write_bytes(bytes(4_000_000))
    server = script(through(client.server, lambda answer: answer))
    drive(server.url, lambda client: client.download(student, "stu_1", unfinished))
    assert _ranges(server) == ["bytes=4000000-", None]
    assert _is_whole(unfinished)


def test_what_cannot_be_had_leaves_nothing(drive, client, student, tmp_path):
    with pytest.raises(ApiError, match="no student stu_2"):
        drive(client.server, lambda client: client.download(student, "stu_2", tmp_path))
    with pytest.raises(InputError):
        drive(client.server, lambda client: client.download(student, "../stu_1", tmp_path / "to"))
    assert _names(tmp_path / "to") == []
