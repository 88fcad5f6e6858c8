from __future__ import annotations

from pathlib import Path

import pytest

from workloads.runs.attempt.stage_log import StageLog
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def make(storage: Storage, stage: str, name: str, builder: str = "cmp_a-1") -> Artifact:
    key = Key(stage, {"name": name})
    storage.write_bytes(f"{artifacts.build_folder(key, builder)}/file", b"x" * 100)
    return artifacts.commit(storage, key, builder, {})


def test_each_stage_is_recorded_once_in_the_order_of_its_coming(storage: Storage) -> None:
    log = StageLog(storage, "cmp_a")
    first, second, corpus = (make(storage, *one) for one in (("student", "1"), ("student", "2"), ("corpus", "")))
    log.record(first, corpus)
    log.record(second, first)
    log.record()
    log.record_fingerprints({"corpus": [corpus.fingerprint], "evaluation": ["e", "e"]})
    assert log.fingerprints() == {
        "student": [first.fingerprint, second.fingerprint],
        "corpus": [corpus.fingerprint],
        "evaluation": ["e"],
    }


def test_students_that_an_answer_rejected_are_left_out(storage: Storage) -> None:
    log = StageLog(storage, "cmp_a")
    kept, rejected, scores = (make(storage, *one) for one in (("student", "1"), ("student", "2"), ("scores", "")))
    log.record(kept, rejected, scores)
    assert log.fingerprints({kept.fingerprint}) == {"student": [kept.fingerprint], "scores": [scores.fingerprint]}
    assert log.fingerprints(set()) == {"scores": [scores.fingerprint]}


def test_bytes_are_those_that_the_job_has_built(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StageLog(storage, "cmp_a")
    assert log.bytes_built() == 0
    log.record(make(storage, "corpus", ""), make(storage, "student", "theirs", "cmp_b-1"))
    own = log.bytes_built()
    log.record(make(storage, "student", "ours", "cmp_a-2"))
    more = log.bytes_built()
    assert own is not None and more is not None and 100 <= own < 200 <= more < 400

    def fail(*_: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(artifacts, "bytes_built", fail)
    assert log.bytes_built() is None
