from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workloads.storage import artifacts
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

KEY = Key("superlm", {"seed": 1, "corpus": "abc"})


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def test_a_build_counts_only_once_it_is_committed(storage: Storage) -> None:
    folder = artifacts.build_folder(KEY, "cmp_x-1")
    storage.write_bytes(f"{folder}/superlm.safetensors", b"half")
    assert artifacts.find(storage, KEY) is None
    committed = artifacts.commit(storage, KEY, "cmp_x-1", {"final_loss": 0.5})
    found = artifacts.find(storage, KEY)
    assert found == committed and found is not None
    assert (found.files, found.summary, found.inputs) == (folder, {"final_loss": 0.5}, KEY.inputs)
    assert storage.list(found.files) == ["superlm.safetensors"]


def test_the_bytes_of_a_job_are_those_that_its_own_attempts_have_built(storage: Storage) -> None:
    used: dict[str, list[str]] = {}
    for builder, size in (("cmp_x-1", 5), ("cmp_x-12", 70), ("cmp_xx-1", 300), ("cmp_x-y-1", 1000)):
        key = Key("superlm", {"builder": builder})
        storage.write_bytes(f"{artifacts.build_folder(key, builder)}/deep/file", bytes(size))
        artifacts.commit(storage, key, builder, {})
        used.setdefault("superlm", []).append(key.fingerprint)
    assert artifacts.bytes_built(storage, used, "cmp_x") == 75
    assert artifacts.bytes_built(storage, {}, "cmp_x") == 0


def test_a_straggler_spoils_no_files_of_the_committed_builder(storage: Storage) -> None:
    storage.write_bytes(f"{artifacts.build_folder(KEY, 'cmp_x-2')}/weights", b"whole")
    committed = artifacts.commit(storage, KEY, "cmp_x-2", {})
    storage.write_bytes(f"{artifacts.build_folder(KEY, 'cmp_x-1')}/weights", b"late")
    assert artifacts.find(storage, KEY) == committed
    assert storage.read_bytes(f"{committed.files}/weights") == b"whole"


def test_the_manifest_says_where_and_with_what_it_was_made(storage: Storage) -> None:
    made = artifacts.commit(storage, KEY, "cmp_x-1", {}, device="cuda")
    assert (made.builder, made.device) == ("cmp_x-1", "cuda") and made.created_at
    assert {"python", "torch", "transformers"} <= set(made.libraries)


def test_the_fingerprint_follows_stage_and_inputs_and_not_their_order() -> None:
    assert Key("superlm", {"corpus": "abc", "seed": 1}).fingerprint == KEY.fingerprint
    others = {Key("superlm", {"seed": 2, "corpus": "abc"}).fingerprint, Key("scores", KEY.inputs).fingerprint}
    assert KEY.fingerprint not in others and len(others) == 2


@pytest.mark.parametrize("way", ["find", "load"])
def test_a_use_is_noted_where_the_last_one_is_some_time_ago(storage: Storage, way: str) -> None:
    made = artifacts.commit(storage, KEY, "cmp_x-1", {})
    mark, manifest = (f"{KEY.folder}/{name}" for name in ("used", "manifest.json"))

    def use() -> None:
        found = artifacts.find(storage, KEY) if way == "find" else artifacts.load(storage, KEY.stage, KEY.fingerprint)
        assert found == made

    use()
    assert storage.modified(mark) is None, "it was made a moment ago"
    _age(storage.path(manifest))
    use()
    noted = storage.modified(mark)
    assert noted is not None and (datetime.now(UTC) - noted).total_seconds() < 60
    use()
    assert storage.modified(mark) == noted
    _age(storage.path(mark))
    use()
    again = storage.modified(mark)
    assert again is not None and again >= noted


def test_looking_for_what_is_not_there_leaves_nothing(storage: Storage) -> None:
    assert artifacts.find(storage, KEY) is None
    with pytest.raises(FileNotFoundError):
        artifacts.load(storage, KEY.stage, KEY.fingerprint)
    assert storage.list("", recursive=True) == []


def test_a_use_that_cannot_be_noted_is_one_all_the_same(storage: Storage) -> None:
    made = artifacts.commit(storage, KEY, "cmp_x-1", {})
    _age(storage.path(f"{KEY.folder}/manifest.json"))
    storage.make_folder(f"{KEY.folder}/used")  # no file can take a folder's place
    assert artifacts.find(storage, KEY) == made


def _age(path: str) -> None:
    then = Path(path).stat().st_mtime - 2 * artifacts.MARK_SECONDS
    os.utime(path, (then, then))
