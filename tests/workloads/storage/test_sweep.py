"""Pruning: the artefacts found and removed, in a folder and on a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.s3 import S3Server
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage
from workloads.storage.sweep import Holder, builds_in, remove, survey

OPEN = Holder("ours", may_go_on=True)
Build = Callable[..., Artifact]


def _later() -> datetime:
    """A time that everything written so far lies before, by any clock."""
    return datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage.open(str(tmp_path))
    server: S3Server = request.getfixturevalue("s3_server")
    return Storage.open(server.url(f"pruning/{tmp_path.name}"))


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def _build(storage: Storage, stage: str, inputs: dict[str, object], builder: str = "cmp_gone-1") -> Artifact:
    key = Key(stage, inputs)
    storage.write_bytes(f"{artifacts.build_folder(key, builder)}/deep/file", bytes(100))
    return artifacts.commit(storage, key, builder, {})


def _name(artifact: Artifact) -> tuple[str, str]:
    return artifact.stage, artifact.fingerprint


def _prune(storage: Storage, holders: dict[str, Holder], since: datetime | None = None) -> list[str]:
    since = since or _later()
    return sorted(one.path for one in remove(storage, survey(storage, holders, since).removable, since))


def test_what_no_job_needs_goes_and_what_one_names_stays_with_all_that_it_was_made_from(storage: Storage) -> None:
    teacher = _build(storage, "teacher", {"files": "weights-of-t"})
    corpus = _build(storage, "corpus", {"texts": ["a"]})
    superlm = _build(storage, "superlm", {"teacher": "weights-of-t", "corpus": corpus.fingerprint})
    scores = _build(storage, "scores", {"superlms": {"tiny": superlm.fingerprint}, "rungs": [1, 2]})
    other = _build(storage, "superlm", {"corpus": "x"})
    holders = {"cmp_1": Holder("ours", frozenset({_name(scores)}))}
    found = survey(storage, holders, _later())
    assert [(one.path, one.committed) for one in found.removable] == [(f"artifacts/superlm/{other.fingerprint}", True)]
    assert found.removable[0].bytes > 100
    assert {_name(one.artifact) for one in found.kept} == {_name(one) for one in (teacher, corpus, superlm, scores)}
    assert {(one.bytes, one.tenants) for one in found.kept} == {(100, frozenset({"ours"}))}
    assert _prune(storage, holders) == [f"artifacts/superlm/{other.fingerprint}"]
    assert storage.files(f"artifacts/superlm/{other.fingerprint}") == ()
    assert storage.read_bytes(f"{superlm.files}/deep/file") == bytes(100)
    assert _prune(storage, holders) == []


def test_what_a_job_in_the_database_has_built_stays_named_or_not(local: Storage) -> None:
    mine, others = _build(local, "student", {"n": 1}, "cmp_1-2"), _build(local, "student", {"n": 2}, "cmp_11-2")
    assert _prune(local, {"cmp_1": Holder("ours")}) == [f"artifacts/student/{others.fingerprint}"]
    assert local.exists(mine.files)


def test_what_was_used_a_moment_ago_stays_with_what_it_was_made_from(local: Storage) -> None:
    corpus = _build(local, "corpus", {})
    superlm = _build(local, "superlm", {"corpus": corpus.fingerprint})
    _age(local, hours=48)
    since = datetime.now(UTC) - timedelta(hours=24)
    assert len(survey(local, {}, since).removable) == 2
    assert artifacts.find(local, Key("superlm", superlm.inputs)) == superlm
    found = survey(local, {}, since)
    assert (found.removable, {one.tenants for one in found.kept}) == ((), {frozenset()})


def test_leftovers_go_with_their_job_or_once_it_has_no_use_for_them(storage: Storage) -> None:
    def leave(job: str) -> dict[str, str]:
        """Leftovers of a first attempt (half a build, checkpoints, scores, Ray's folder) and half of a second's."""
        fingerprint = Key("superlm", {"job": job}).fingerprint
        places = {
            "build": f"artifacts/superlm/{fingerprint}/builds/{job}-1",
            "checkpoints": f"artifacts/training/{fingerprint}/{job}-1",
            "scores": f"artifacts/scores/{fingerprint}/rungs/{job}-1",
            "ray": f"artifacts/training/{fingerprint}-ray-{job}-1",
            "now": f"artifacts/superlm/{fingerprint}/builds/{job}-2",
        }
        for place in places.values():
            storage.write_bytes(f"{place}/part/file", b"half")
        return places

    deleted, done, failed, runs = (leave(f"cmp_{name}") for name in ("deleted", "done", "failed", "runs"))
    holders = {"cmp_done": Holder("ours"), "cmp_failed": OPEN, "cmp_runs": Holder("ours", may_go_on=True, running=2)}
    gone = [*deleted.values(), *done.values(), failed["build"], failed["now"], runs["build"]]
    assert _prune(storage, holders) == sorted(gone)
    stay = [*(failed[name] for name in ("checkpoints", "scores", "ray")), runs["checkpoints"], runs["now"]]
    assert all(storage.exists(place) for place in stay)


def test_a_build_that_another_took_the_place_of_stays_while_a_job_names_it(local: Storage) -> None:
    first = _build(local, "student", {}, "cmp_a-1")
    second = _build(local, "student", {}, "cmp_b-1")
    ((name, build),) = builds_in(f'{{"files": "{first.files}/config.json"}}')
    assert (name, build) == (_name(first), first.files)
    held = {"cmp_c": Holder("ours", frozenset({name}), frozenset({build}))}
    assert _prune(local, held) == []
    assert _prune(local, {"cmp_c": Holder("ours", frozenset({name}))}) == [first.files]
    assert artifacts.load(local, *name) == second


def test_an_artefact_that_is_found_while_its_manifest_is_taken_away_is_put_back(storage: Storage) -> None:
    found, gone = _build(storage, "corpus", {"n": 1}), _build(storage, "corpus", {"n": 2})
    since = _later()
    removable = survey(storage, {}, since).removable
    soon = datetime.now(UTC) - timedelta(minutes=1)  # the mark that a run leaves now is younger
    storage.write_bytes(f"artifacts/corpus/{found.fingerprint}/used", b"")
    assert [one.path for one in remove(storage, removable, soon)] == [f"artifacts/corpus/{gone.fingerprint}"]
    assert artifacts.load(storage, *_name(found)) == found
    assert storage.read_bytes(f"{found.files}/deep/file") == bytes(100)


def test_what_was_removed_halfway_is_no_artefact_and_goes_the_next_time(local: Storage) -> None:
    artifact = _build(local, "corpus", {})
    folder = f"artifacts/corpus/{artifact.fingerprint}"
    local.write_bytes(f"{folder}/used", b"")
    local.remove(f"{folder}/manifest.json")
    assert artifacts.find(local, Key("corpus", {})) is None
    assert _prune(local, {}) == [artifact.files, f"{folder}/used"]
    assert local.list("artifacts", recursive=True) == []


def test_a_second_pruning_at_the_same_time_minds_nothing_missing(local: Storage) -> None:
    _build(local, "corpus", {})
    since = _later()
    removable = survey(local, {}, since).removable
    assert [len(list(remove(local, removable, since))) for _ in range(2)] == [1, 0]


def _age(storage: Storage, hours: float) -> None:
    """Have all files look as if they had been written some hours ago."""
    then = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    for file in storage.files(""):
        os.utime(storage.path(file.path), (then, then))
