from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.small_disk import run_on_small_disk
from workloads.spec.errors import InputError
from workloads.storage.storage import Storage

_ON_A_FULL_DISK = """
import sys
from workloads.storage import artifacts
from workloads.spec.errors import InputError
from workloads.storage.storage import Storage

storage = Storage.open(sys.argv[1])
storage.write_bytes("kept/weights", b"old")
for name in ("kept/weights", "new/weights"):
    try:
        storage.write_bytes(name, bytes(4 << 20))
    except OSError as error:
        assert "No space left on device" in str(error) and name in str(error), error
    else:
        raise AssertionError("4 MiB went into 1 MiB")
assert storage.read_bytes("kept/weights") == b"old"
assert storage.list("", recursive=True) == ["kept/weights"], storage.list("", recursive=True)

with open(f"{storage.root}/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
key = artifacts.Key("superlm", {})
try:
    artifacts.commit(storage, key, "cmp_x-1", {})
except OSError:
    pass
else:
    raise AssertionError("committed on a full disk")
assert artifacts.find(storage, key) is None
try:
    storage.check_writable()
except InputError as error:
    assert storage.url in str(error) and "No space left" in str(error), error
else:
    raise AssertionError("a full disk passed for writable")
assert storage.list("", recursive=True) == ["filler", "kept/weights"], storage.list("", recursive=True)
print("all held")
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "storage"))


def test_a_full_disk_leaves_the_old_content_and_no_part_of_the_new(tmp_path: Path) -> None:
    done = run_on_small_disk(_ON_A_FULL_DISK, tmp_path)
    assert done.stdout == "all held\n", done.stderr


_UPLOAD_TO_A_FULL_DISK = """
import sys, tempfile
from pathlib import Path
from workloads.storage.storage import Storage
storage = Storage.open(sys.argv[1])
with tempfile.TemporaryDirectory(dir="/tmp") as folder:
    big = Path(folder, "big")
    big.write_bytes(bytes(2 << 20))
    try:
        storage.upload(big, "models/big")
    except OSError:
        pass
    else:
        sys.exit("it had room")
assert not storage.exists("models/big")
storage.write_bytes("result.json", bytes(100_000))
"""


def test_an_upload_that_finds_no_room_leaves_none_of_it_behind(tmp_path: Path) -> None:
    done = run_on_small_disk(_UPLOAD_TO_A_FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_is_written_is_read_back_whole_and_overwritten(storage: Storage) -> None:
    storage.write_bytes("a/b", b"first")
    storage.write_bytes("a/b", b"2nd")
    storage.write_json("a/c", {"k": [1]})
    assert storage.read_bytes("a/b") == b"2nd" and storage.read_json("a/c") == {"k": [1]}
    assert storage.list("a") == ["b", "c"] and storage.size("a/b") == 3
    assert b"".join(storage.stream("a/b", chunk=2)) == b"2nd"


@pytest.mark.parametrize(("begin", "end"), [(0, None), (3, None), (0, 4), (2, 9), (5, 5), (9, None), (10, None)])
def test_a_part_of_a_file_is_streamed_alone(storage: Storage, begin: int, end: int | None) -> None:
    storage.write_bytes("a", b"0123456789")
    assert b"".join(storage.stream("a", 3, begin=begin, end=end)) == b"0123456789"[begin:end]


def test_files_are_listed_with_their_sizes_and_times(storage: Storage) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    for name in ("x/b/2", "x/a"):
        storage.write_bytes(name, name.encode())
    assert [(file.path, file.bytes) for file in storage.files("x")] == [("a", 3), ("b/2", 5)]
    assert all(before < file.modified == storage.modified(f"x/{file.path}") for file in storage.files("x"))
    assert (storage.files("none"), storage.modified("none"), storage.modified("x")) == ((), None, None)


def test_a_path_that_leaves_the_storage_is_a_bug(storage: Storage) -> None:
    for path in ("../secret", "/etc/passwd", "a/../../b"):
        with pytest.raises(AssertionError):
            storage.path(path)


def test_lists_are_sorted_and_relative_and_nothing_there_is_empty(storage: Storage) -> None:
    for name in ("x/b/2", "x/a", "x/b/1"):
        storage.write_bytes(name, b"")
    assert storage.list("x") == ["a", "b"]
    assert storage.list("x", recursive=True) == ["a", "b/1", "b/2"]
    assert storage.list("none") == []


def test_a_folder_goes_up_and_comes_down_unchanged(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/one").write_bytes(b"1")
    (tmp_path / "in/deep/two").write_bytes(bytes(5 << 20))
    storage.upload(tmp_path / "in", "models/m")
    out = storage.download("models/m", tmp_path / "out")
    assert (out / "one").read_bytes() == b"1" and (out / "deep/two").stat().st_size == 5 << 20


def test_removing_takes_files_and_folders_and_minds_nothing_missing(storage: Storage) -> None:
    storage.write_bytes("x/a", b"")
    storage.write_bytes("y/b/c", b"")
    for name in ("x/a", "y", "never"):
        storage.remove(name)
    assert storage.list("", recursive=True) == [] and not storage.exists("y")


def test_a_url_that_cannot_be_understood_is_refused() -> None:
    with pytest.raises(InputError, match="storage: 'nope://x' cannot be opened"):
        Storage.open("nope://x")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        Storage.open(str(tmp_path / "file")).check_writable()
    assert str(tmp_path / "file") in str(caught.value)
