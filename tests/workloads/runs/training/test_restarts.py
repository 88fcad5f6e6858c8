"""Restarts of a training run: the launcher makes them and bounds each start; Ray Train itself makes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from cluster.launching import LostError, NoRoomYetError
from workloads.runs.training import train_group
from workloads.runs.training.train_group import GroupJob, run_group
from workloads.shapes.search_space import ProductSpace
from workloads.spec.errors import InputError
from workloads.spec.request import parse_request
from workloads.storage.artifacts import Artifact


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> tuple[Any, BaseException | None]:
    """Run a group whose trainer ends with an error; gives Ray Train's settings of failures, and the group's end."""
    settings = []

    class Trainer:
        def __init__(self, _: object, *, run_config: Any, **__: Any) -> None:
            settings.append(run_config.failure_config)

        def fit(self) -> None:
            if error is not None:
                raise error

    monkeypatch.setattr(train_group, "TorchTrainer", Trainer)
    request = parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": ["a.txt"]},
            "budgets": [{"name": "any", "max_params": 1}],
            "training": {"max_failures": 5},
        }
    )
    space = ProductSpace("small", (2,), (32,), (2.0,), None, 16, 4)
    corpus = Artifact("corpus", "0", "cmp_1-1", {}, {})
    job = GroupJob(
        storage=str(folder), request=request, teacher_files="teacher", corpus=corpus, spaces=(space,),
        outputs={"small": "out"}, checkpoints="checkpoints", builder="cmp_1-1", cpus=1, gpu=False,
    )  # fmt: skip
    assert job.retries == 5
    end = run_group(job, None)
    return settings[0], end


def test_ray_train_restarts_nothing_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, end = run(tmp_path, monkeypatch, None)
    assert end is None
    assert settings.max_failures == settings.controller_failure_limit == settings.max_preemption_failures == 0


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (WorkerGroupError("x", {1: RuntimeError("the process died")}), RuntimeError, "the process died"),
        (
            WorkerGroupError("x", {0: RuntimeError("peer"), 1: UserExceptionWithTraceback(OSError(28, "full"), "")}),
            OSError, "full",
        ),
        (ControllerError(WorkerGroupStartupFailedError("a node died")), RuntimeError, "a node died"),
    ],
    ids=["worker", "storage", "start"],
)  # fmt: skip
def test_a_worker_s_death_may_be_mended_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], words: str
) -> None:
    _, end = run(tmp_path, monkeypatch, error)
    assert isinstance(end, LostError)
    assert type(end.failure) is raised
    assert words in str(end.failure)


def test_a_group_that_found_no_room_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, end = run(tmp_path, monkeypatch, ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert isinstance(end, NoRoomYetError)


def test_a_wrong_input_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = InputError.of("training.seed", "It is wrong.", "Give another.")
    error = WorkerGroupError("x", {0: OSError("peer"), 1: UserExceptionWithTraceback(wrong, "")})
    assert run(tmp_path, monkeypatch, error)[1] is wrong


def test_an_error_of_ray_train_s_controller_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, end = run(tmp_path, monkeypatch, ControllerError(ValueError("a bug")))
    assert type(end) is RuntimeError
    assert "a bug" in str(end)
