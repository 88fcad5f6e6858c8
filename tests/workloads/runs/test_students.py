"""A saved student: the contents of its folder, and its commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import AutoModel

from tests.workloads.runs.scenes import Heard
from workloads.answers.choosing import Scored
from workloads.answers.latency import LatencyMeasure
from workloads.answers.scores_table import ScoredRow
from workloads.answers.student_key import student_key
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.craft.teacher import open_teacher
from workloads.runs.attempt.run import Run
from workloads.runs.students import Origin, build_student
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import LatencyTarget
from workloads.spec.request import parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

TARGET = LatencyTarget(name="edge")
MEASURE = LatencyMeasure(
    target=TARGET, p50_ms=1.25, p95_ms=1.5, spread=0.01, repeats_p50_ms=[1.2, 1.3], agrees=True, teacher_p50_ms=5.0,
    teacher_repeats_p50_ms=[5.0, 5.0], speed_up=4.0, device="a CPU", versions={}, measured_at="now",
)  # fmt: skip


def test_the_card_tells_the_latency_that_the_exported_student_had_before_it_counts(
    make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    storage = Storage.open(str(tmp_path / "storage"))
    teacher = open_teacher(make_teacher(tmp_path / "teacher"))
    space = relative_spaces(teacher.shape, 2)[0]
    request = parse_request(
        {"teacher": {"model": "t"}, "corpus": {"paths": ["c"]}, "budgets": [{"name": "b", "max_params": 1}]}
    )
    text = {"sides": {"train": {"documents": 3}}, "sequence_length": 16, "layout": "packed"}
    corpus = artifacts.commit(storage, Key("corpus", {}), "b-1", text)
    superlm = artifacts.commit(storage, Key("superlm", {}), "b-1", {"tokens": 100, "head_order": None})
    scored = Scored(space.name, space.largest, 0.5)
    rows = [ScoredRow(scored, 4, 0, None), ScoredRow(Scored(space.name, space.smallest, 0.9), 4, 0, None)]
    origin = Origin(
        request,
        teacher,
        SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher)),
        {"corpus": corpus, "superlm": superlm},
        rows,
    )
    run = Run(storage, "cmp_a-1", Heard(storage, []))
    scores, others = (artifacts.commit(storage, Key("scores", {"rows": rows}), "b-1", {}) for rows in (4, 8))
    plain = student_key(scores, superlm, space.largest, request.export)
    key = student_key(scores, superlm, space.largest, request.export, (TARGET, "a CPU"))
    elsewhere = student_key(scores, superlm, space.largest, request.export, (TARGET, "another CPU"))
    other_search = student_key(others, superlm, space.largest, request.export)  # the card tells its loss and picture
    assert len({one.fingerprint for one in (plain, key, elsewhere, other_search)}) == 4

    build_student(run, origin, scored, plain, tmp_path / "plain")
    before = storage.read_bytes(f"{artifacts.build_folder(plain, 'cmp_a-1')}/README.md")
    assert b"## Latency" not in before

    def measure(files: str) -> LatencyMeasure:
        assert artifacts.find(storage, key) is None, "what is committed does not change"
        assert AutoModel.from_pretrained(storage.path(files)) is not None
        return MEASURE

    student = build_student(run, origin, scored, key, tmp_path / "measured", measure)
    card = storage.read_bytes(f"{student.files}/README.md").decode()
    for part in ("edge: cpu", "a CPU", "1.25 ms", "1.5 ms", "1.0%", "4.00 times"):
        assert part in card.partition("## Latency")[2]
    assert storage.read_bytes(f"{artifacts.build_folder(plain, 'cmp_a-1')}/README.md") == before
