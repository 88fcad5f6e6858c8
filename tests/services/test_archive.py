import io
import tarfile
import tracemalloc

import pytest

from services.api.archive import FolderArchive
from workloads.storage import Storage


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
