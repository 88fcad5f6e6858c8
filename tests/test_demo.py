from __future__ import annotations

from typing import Any

import pytest

from demo.run import _finish
from services.jobs.documents import JobDocument
from workloads.documents.job_folder import now

STUDENT: dict[str, Any] = {
    "id": "stu_1", "budget": "edge", "subspace": "tiny", "params": 1000, "flops": 1000, "sequence_length": 64,
    "heldout_loss": 0.5, "files": "/students/edge",
    "architecture": {
        "layers": 2, "hidden_size": 64, "intermediate_size": 128, "heads": 2, "head_width": 32, "source_layers": [0, 3],
    },
}  # fmt: skip


def _job(*students: dict[str, Any]) -> JobDocument:
    given = {"id": "cmp_1", "status": "succeeded", "attempt": 1, "request": {}, "created_at": now()}
    return JobDocument.model_validate(
        given
        | {"ray": {"state": "ready", "note": ""}, "steps": [], "students": students, "infeasible": [], "attempts": []}
    )


def test_the_demo_shows_how_to_load_the_first_student_that_has_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_job(STUDENT | {"id": "stu_0", "files": None}, STUDENT), seconds=1) == 0
    printed = capsys.readouterr().out
    assert "from_pretrained('/students/edge'" in printed and "None" not in printed.partition("Load one")[2]


def test_the_demo_shows_nothing_to_load_without_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_job(STUDENT | {"files": None}), seconds=1) == 0
    assert "from_pretrained" not in capsys.readouterr().out
