"""A search whose driver is killed, and the attempt after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.runs.scenes import LENGTH, ROOT, Heard, Scene
from workloads.answers.choosing import Scored
from workloads.answers.scores_table import read_scores
from workloads.answers.trained import TeacherStage
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import save_superlm, wiring_of
from workloads.craft.teacher import open_teacher
from workloads.runs.attempt.run import News, Run
from workloads.runs.search import results
from workloads.runs.search.search import SearchInputs, search_candidates
from workloads.shapes.search_space import ProductSpace
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

SPACES = [ProductSpace("wide", (1, 2, 3, 4), (16, 32, 48), tuple(1 + i / 16 for i in range(32)), None, 16, 4)]
_DRIVER = (
    "import sys, ray; ray.init(); from tests.workloads.runs.search import test_kill; test_kill.drive(sys.argv[1:])"
)


def _search(storage: Storage, request: CompressionRequest, builder: str) -> Artifact:
    stage: dict[str, Any] = storage.read_json("stage.json")
    teacher = open_teacher(Path(storage.path("teacher")))
    files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
    inputs = SearchInputs(
        request,
        TeacherStage(files, stage["teacher"], teacher.shape),
        Artifact(**stage["corpus"]),
        SPACES,
        {"wide": Artifact(**stage["superlm"])},
    )
    news = News.unheard()
    return search_candidates(Run(storage, builder, Heard(storage, [])), inputs, news)


def drive(arguments: list[str]) -> None:
    """The killed driver's program."""
    storage = Storage.open(arguments[0])
    results.EVERY_SECONDS = 0.0
    _search(storage, parse_request(storage.read_json("request.json")), "cmp_1-1")


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_that_was_killed_is_taken_up_where_it_stood(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, make_teacher)
    storage = scene.storage
    teacher = open_teacher(Path(storage.path("teacher")))
    key = Key("superlm", {"test": "kill"})
    superlm = SuperLM.from_teacher(teacher.weights, SPACES[0], wiring_of(teacher))
    save_superlm(Path(storage.path(artifacts.build_folder(key, "b"))), superlm)
    made = artifacts.commit(storage, key, "b", {"head_order": None})
    storage.write_json(
        "stage.json", {"teacher": scene.fingerprint, "corpus": vars(scene.corpus), "superlm": vars(made)}
    )
    request = parse_request(
        scene.request().model_dump(mode="json")
        | {"search": {"heldout_blocks": 16, "first_rung_blocks": 4}, "training": {"sequence_length": LENGTH}}
    )
    storage.write_json("request.json", request.model_dump(mode="json"))

    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, storage.url],
        cwd=ROOT, env=os.environ | {"RAY_ADDRESS": ray_cluster}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while len(_lines(storage)) < 30:
        if driver.poll() is not None or time.monotonic() > deadline:
            driver.kill()
            raise AssertionError(driver.communicate()[0])
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    before = _lines(storage)

    after: list[tuple[str, int]] = []
    plain = results.Results.add

    def add(self: results.Results, work: Any, scores: Any) -> None:
        after.extend((json.dumps(one.architecture.to_json()), work.start) for _, one in work.candidates)
        plain(self, work, scores)

    monkeypatch.setattr(results.Results, "add", add)
    restored = _search(storage, request, "cmp_1-2")
    assert after, "the kill came in mid-run"
    assert not set(before) & set(after), "nothing is scored twice"
    assert len(before) == len(set(before)) and len(after) == len(set(after))

    table = _tables(storage, restored)
    storage.remove(f"artifacts/scores/{restored.fingerprint}")
    assert table == _tables(storage, _search(storage, request, "cmp_1-3")), "as if undisturbed"


def _tables(storage: Storage, artifact: Artifact) -> tuple[list[Scored], list[Scored]]:
    rows = read_scores(storage, artifact)
    return [row.scored for row in rows], [row.scored for row in rows if row.survives]


def _lines(storage: Storage) -> list[tuple[str, int]]:
    """Each candidate and first row that was kept."""
    kept = []
    for name in storage.list("artifacts/scores", recursive=True):
        if "/rungs/" in name and name.endswith(".jsonl"):
            for line in storage.read_bytes(f"artifacts/scores/{name}").splitlines():
                row = json.loads(line)
                kept.append((json.dumps(row["architecture"]), row["start"]))
    return kept
