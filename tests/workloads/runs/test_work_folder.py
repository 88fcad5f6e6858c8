"""A run's local copies, which must not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from workloads.runs.stages.training import StoredTraining
from workloads.spec.request import parse_request
from workloads.storage.storage import Storage

_HOLDS_ON = """
import contextlib, signal, time
from workloads.runs import job as compression

with compression._work_folder() as work:
    (work / "fetched").mkdir()
    (work / "fetched" / "model.safetensors").write_bytes(b"weights")
    signal.signal(signal.SIGTERM, compression._end_quickly)
    print("ready", flush=True)
    with contextlib.suppress(SystemExit):
        time.sleep(100)
    time.sleep(100)
"""


def test_a_run_that_is_asked_to_end_and_holds_on_leaves_no_copies(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS_ON], env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == b"ready\n"
        assert [path.name[:14] for path in tmp_path.iterdir()] == ["stillroom-run-"]
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_the_teacher_that_was_fetched_is_not_kept_beside_its_artefact(
    tmp_path: Path, make_teacher: Callable[..., Path]
) -> None:
    folder = make_teacher(tmp_path / "teacher", layers=1)
    storage = Storage.open(str(tmp_path / "storage"))
    request = parse_request(
        {
            "teacher": {"model": str(folder)},
            "corpus": {"paths": ["a.txt"]},
            "budgets": [{"name": "a", "max_params": 1}],
        }
    )
    cache = SimpleNamespace(
        get_or_build=lambda step, key, build: build(),
        record=lambda step, artifact: None,
        local=lambda artifact: Path(storage.path(artifact.files)),
    )
    attempt: Any = SimpleNamespace(
        storage=storage,
        request=request,
        builder="cmp_a-1",
        cache=cache,
        progress=SimpleNamespace(start=lambda step: None, note=lambda step, text: None),
        settle=lambda shape: None,
        work=tmp_path / "work",
    )
    stage = StoredTraining(attempt).teacher()
    assert stage.shape.layers == 1
    assert storage.exists(f"{stage.artifact.files}/model.safetensors")
    assert not list((tmp_path / "work").iterdir())
