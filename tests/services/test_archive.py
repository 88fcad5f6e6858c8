import io
import tarfile
import tracemalloc

import pytest

from services.api.archive import FolderArchive
from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from workloads.documents.job_folder import ResultDocument, StudentDocument
from workloads.storage.storage import Storage


def test_an_archive_holds_every_file_and_is_as_long_as_it_says(tmp_path):
    storage = Storage.open(str(tmp_path))
    contents = {"empty": b"", "a/b": b"x" * 512, f"{'long' * 60}/ä.bin": b"y" * 513}
    for name, data in contents.items():
        storage.write_bytes(f"student/{name}", data)
    archive = FolderArchive.of(storage, "student", "stu_1")
    data = b"".join(archive.stream())
    assert len(data) == archive.size
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert {name: opened.extractfile(f"stu_1/{name}").read() for name in contents} == contents


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_any_part_of_an_archive_is_that_of_the_whole(place, request, tmp_path):
    url = str(tmp_path) if place == "folder" else request.getfixturevalue("s3_server").url("archive")
    storage = Storage.open(url)
    for name, data in {"a": b"", "b/c": bytes(range(256)) * 7, "d": b"z" * 512}.items():
        storage.write_bytes(f"student/{name}", data)
    archive = FolderArchive.of(storage, "student", "stu_1")
    whole = b"".join(archive.stream())
    edges = [0, 1, 511, 512, 513, 1024, 1500, 3000, 3584, len(whole) - 1024, len(whole) - 1, len(whole)]
    for begin in edges:
        for end in edges:
            assert b"".join(archive.stream(begin, end)) == whole[begin:end], (begin, end)
    assert archive.tag == FolderArchive.of(storage, "student", "stu_1").tag
    storage.write_bytes("student/e", b"")
    assert archive.tag != FolderArchive.of(storage, "student", "stu_1").tag


def test_memory_stays_flat_however_large_the_file(tmp_path):
    (tmp_path / "student").mkdir()
    with (tmp_path / "student" / "model.safetensors").open("wb") as file:
        file.truncate(256 << 20)
    archive = FolderArchive.of(Storage.open(str(tmp_path)), "student", "stu_1")
    tracemalloc.start()
    sent = sum(len(piece) for piece in archive.stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent == archive.size
    assert peak < 8 << 20


def test_a_file_that_changes_under_way_cuts_the_archive_short(tmp_path):
    storage = Storage.open(str(tmp_path))
    storage.write_bytes("student/a", b"1234")
    archive = FolderArchive.of(storage, "student", "stu_1")
    storage.write_bytes("student/a", b"12")
    with pytest.raises(OSError, match="not the 4"):
        list(archive.stream())


def test_a_service_keeps_its_jobs_and_serves_students_on_s3(s3_server, make_request, tmp_path):
    settings = load_settings(
        storage=s3_server.url("service"), state_folder=tmp_path / "state", ray_address="http://127.0.0.1:9"
    )
    service = Service(settings)
    data = bytes(3 << 20)
    try:
        service.start()
        job = service.submit(make_request())
        service.work.begin_attempt(job.id)
        files = f"artifacts/student/abc/builds/{job.id}-1"
        service.storage.write_bytes(f"{files}/config.json", b"{}")
        service.storage.write_bytes(f"{files}/sub/model.safetensors", data)
        student = StudentDocument(
            id="stu_1", budget="edge", subspace="tiny", architecture={}, params=1, flops=1,
            sequence_length=128, heldout_loss=0.5, files=files,
        )  # fmt: skip
        result = ResultDocument(status="succeeded", students=[student])
        service.work.end_attempt(
            job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result)
        )
        with serving(service) as client:
            assert client.students(job.id).students[0].files == f"s3://{s3_server.bucket}/service/{files}"
            folder = client.download(job.id, "stu_1", tmp_path / "fetched")
    finally:
        service.close()
    assert (folder / "sub/model.safetensors").read_bytes() == data
