from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.workloads.task_files import write_words
from workloads.craft import calibration
from workloads.craft.calibration import calibrate, calibrate_scoring, calibrate_task
from workloads.craft.polishing import single_student_space
from workloads.craft.tasks.data import read_task
from workloads.craft.tasks.encoding import encode_task
from workloads.craft.tasks.finetuning import FineTuning
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.spaces import relative_spaces
from workloads.spec.request import parse_request
from workloads.spec.search import TaskSpec

CPU = torch.device("cpu")


@pytest.fixture
def teacher(make_teacher: Callable[..., Path], tmp_path: Path) -> Teacher:
    return open_teacher(make_teacher(tmp_path / "teacher"))


def test_an_epoch_of_fine_tuning_is_told_from_some_of_its_rows(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def takes(seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any) -> Any:
            clock[0] += seconds
            return work(*given)

        return done

    monkeypatch.setattr(calibration, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(FineTuning, "_step", takes(1.0, FineTuning._step))
    monkeypatch.setattr(FineTuning, "predict", takes(2.0, FineTuning.predict))
    for name, rows in (("train", 100), ("few", 6), ("validation", 50)):
        write_words(tmp_path / f"{name}.csv", rows, 0)

    def epoch(train: str) -> float:
        spec = TaskSpec(
            train=[str(tmp_path / f"{train}.csv")], validation=[str(tmp_path / "validation.csv")],
            text_columns=["sentence"], batch_size=8, sequence_length=16,
        )  # fmt: skip
        task = encode_task(read_task(spec), spec, teacher.tokenizer, teacher.shape)
        space = relative_spaces(teacher.shape, 2)[0]
        found = calibrate_task(teacher, (space, space.largest), task, spec, seed=0, device=CPU)
        assert found.architecture == space.largest
        return found.epoch_seconds

    # Three steps of eight rows after the first, and 32 of the validation rows.
    assert epoch("train") == pytest.approx(3 / 24 * 100 + 2 / 32 * 50)
    assert epoch("few") == pytest.approx(1.0 + 2 / 32 * 50)


def test_a_candidate_alone_is_timed_as_it_would_be_polished(teacher: Teacher) -> None:
    request = parse_request(
        {
            "teacher": {"model": "t"}, "corpus": {"paths": ["c"]}, "budgets": [{"name": "b", "max_params": 1}],
            "training": {"sequence_length": 16, "batch_size": 4},
        }
    )  # fmt: skip
    space = relative_spaces(teacher.shape, 2)[0]
    only = single_student_space(space, space.smallest)
    found = calibrate(teacher, [space, only], request, rows=4, device=CPU)
    scoring = calibrate_scoring(teacher, [space, only], request, device=CPU)
    assert set(found.step_seconds) == set(scoring.row_seconds) == {space.name, only.name}
    assert min(found.teacher_seconds, scoring.teacher_seconds) > 0
    assert min(*found.step_seconds.values(), *scoring.row_seconds.values()) > 0


def test_a_slow_moment_of_the_teacher_makes_no_step_free(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_teacher_seconds", lambda *given: 60.0)
    request = parse_request(
        {
            "teacher": {"model": "t"}, "corpus": {"paths": ["c"]}, "budgets": [{"name": "b", "max_params": 1}],
            "training": {"sequence_length": 16, "batch_size": 4},
        }
    )  # fmt: skip
    found = calibrate(teacher, [relative_spaces(teacher.shape, 2)[0]], request, rows=4, device=CPU)
    (step,) = found.step_seconds.values()
    assert 0 < step < 60
