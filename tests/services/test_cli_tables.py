"""What verbs print for people: columns for what there is to say, and none for what there is not."""

import pytest

from services.api.schemas import FrontierDocument, FrontierLatency, FrontierPoint
from services.cli.tables import print_frontier, print_selection, print_students
from services.jobs.documents import SelectionDocument
from services.jobs.rows import now
from services.jobs.states import JobStatus
from tests.services.searched import SPACES
from workloads.answers.exports import QuantisationReport
from workloads.answers.latency import BUILT_IN_TARGETS, LatencyMeasure
from workloads.answers.latency_model import HeldOutError
from workloads.documents.job_folder import InfeasibleDocument, StudentDocument

SHAPE = SPACES[0].smallest
POINT = {
    "subspace": "tiny", "architecture": SHAPE.to_json(), "params": 1234, "params_without_embeddings": 234,
    "weight_bytes": {"float32": 4936}, "activation_bytes": 777, "flops": 5678, "sequence_length": 128,
    "heldout_loss": 0.5,
}  # fmt: skip
MEASURE = LatencyMeasure(
    target=BUILT_IN_TARGETS["cpu-1"], p50_ms=1.25, p95_ms=1.5, spread=0.1, repeats_p50_ms=[1.0, 1.5], agrees=False,
    teacher_p50_ms=5.0, teacher_repeats_p50_ms=[5.0, 5.0], speed_up=4.0, device="a CPU", versions={}, measured_at="now",
)  # fmt: skip
INT8 = QuantisationReport(
    float32_bytes=4, int8_bytes=1, rows=1, tokens=1, hidden_cosine=0.9, hidden_error=0.0312, pooled_cosine=0.9,
    pooled_cosine_worst=0.9, pooled_error=0.01,
)  # fmt: skip


def _student(name, **more):
    return StudentDocument(**POINT, id=f"stu_{name}", budget=name, files=f"/{name}", **more)


def _lines(capsys):
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_students_without_latency_task_or_int8_have_no_columns_for_them(capsys):
    print_students([_student("a")], [])
    columns, row = _lines(capsys)
    assert columns == ["budget", "shape", "params", "FLOPs", "held-out loss", "folder"]
    assert row == ["a", SHAPE.describe(), "1,234", "5,678 @128", "0.5000", "/a"]


def test_what_is_known_of_a_student_stands_in_columns_of_its_own(capsys):
    prediction = {"predicted_ms": 1.1, "median_error": 0.05, "p90_error": 0.1}
    measured = _student("a", latency=MEASURE, latency_prediction=prediction, task_score=0.875)
    quantised = _student("b", exports={"int8": "model.int8.onnx", "int8_report": INT8.model_dump()})
    print_students([measured, quantised], [])
    columns, first, second = _lines(capsys)
    told = dict(zip(columns, first, strict=True))
    assert {name: told[name] for name in columns[5:]} == {
        "task score": "0.8750", "p50 ms": "1.250", "p95 ms": "1.500", "on": "cpu-1", "speed-up": "4.00x",
        "repeats": "disagree", "predicted ms": "1.100 ±5.0%", "int8 error": "", "folder": "/a",
    }  # fmt: skip
    assert [value for value in second[5:] if value] == ["3.12%", "/b"]


def test_a_selection_names_the_budgets_that_wait_and_what_limits_it(capsys):
    selection = SelectionDocument(
        id="sel_1", compression="cmp_1", status=JobStatus.QUEUED, budgets=[], students=[_student("a")],
        infeasible=[InfeasibleDocument(budget="z", nearest=[])], unanswered=["b"], note="Mind the rows.", steps=[],
        created_at=now(),
    )  # fmt: skip
    print_selection(selection)
    told = capsys.readouterr()
    assert "Nothing meets the budget z." in told.out
    assert "The budget b has no answer before its latency target is measured." in told.out
    assert "Mind the rows." in told.err and "Mind the rows." not in told.out


@pytest.mark.parametrize(
    ("cost", "column", "value"),
    [
        ("params", "params", "1,234"),
        ("params_without_embeddings", "params less embeddings", "234"),
        ("flops", "FLOPs", "5,678 @128"),
        ("weight_bytes", "weight bytes", "4,936"),
        ("activation_bytes", "activation bytes", "777 @128"),
    ],
)
def test_a_frontier_shows_the_costs_that_were_asked_for(capsys, cost, column, value):
    print_frontier(FrontierDocument(costs=[cost], sequence_length=128, points=[FrontierPoint(**POINT)]))
    columns, row = _lines(capsys)
    assert columns == ["sub-space", "shape", column, "held-out loss"]
    assert row == ["tiny", SHAPE.describe(), value, "0.5000"]


def test_a_frontier_over_latency_says_what_is_predicted_and_how_well(capsys):
    latency = FrontierLatency(
        target=BUILT_IN_TARGETS["cpu-1"], percentile="p95", device="a CPU",
        error=HeldOutError(candidates=20, median=0.051, p90=0.1),
    )  # fmt: skip
    points = [FrontierPoint(**POINT, latency_ms=ms, latency_predicted=guess) for ms, guess in ((1.5, True), (2, False))]
    print_frontier(
        FrontierDocument(
            costs=["latency", "params"], sequence_length=128, latency=latency, note="Mind the rows.", points=points
        )
    )
    told = capsys.readouterr()
    columns, *rows = [line.split("\t") for line in told.out.splitlines()]
    assert columns == ["sub-space", "shape", "latency ms", "params", "is", "held-out loss"]
    assert [row[2:5] for row in rows] == [["1.500", "1,234", "predicted"], ["2.000", "1,234", "measured"]]
    assert "p95 on cpu-1, a CPU; predictions are off by 5.1%" in told.err and "Mind the rows." in told.err
