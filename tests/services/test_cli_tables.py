"""Tables that verbs print for people: columns with values only."""

import io
from datetime import datetime, timedelta, timezone

import pytest
from rich.console import Console

from services.api.schemas import FrontierDocument, FrontierLatency, FrontierPoint
from services.cli import tables
from services.cli.numbers import losses
from services.cli.tables import print_frontier, print_selection, print_students, print_table
from services.jobs.documents import SelectionDocument, ShownStudent
from services.jobs.rows import now
from services.jobs.states import JobStatus
from tests.services.searched import SPACES
from workloads.answers.choosing import over_best
from workloads.answers.exports import QuantisationReport
from workloads.answers.fidelity import Fidelity
from workloads.answers.latency import BUILT_IN_TARGETS, HeldOutError, LatencyMeasure
from workloads.documents.job_folder import InfeasibleDocument, NearestDocument

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
    return ShownStudent(**({"over_best": 0.0} | POINT | more), id=f"stu_{name}", budget=name, files=f"/{name}")


def _lines(capsys):
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_students_without_latency_task_or_int8_have_no_columns_for_them(capsys):
    print_students([_student("a")], [])
    columns, row = _lines(capsys)
    assert columns == ["budget", "shape", "params", "FLOPs", "length", "held-out loss", "over the best", "folder"]
    assert row == ["a", SHAPE.describe(), "1234", "5678", "128", "0.5", "0.0", "/a"]


def test_what_is_known_of_a_student_stands_in_columns_of_its_own(capsys):
    prediction = {"predicted_ms": 1.1, "median_error": 0.05, "p90_error": 0.1}
    measured = _student("a", latency=MEASURE, latency_prediction=prediction, task_score=0.875)
    quantised = _student("b", exports={"int8": "model.int8.onnx", "int8_report": INT8.model_dump()})
    print_students([measured, quantised], [])
    columns, first, second = _lines(capsys)
    told = dict(zip(columns, first, strict=True))
    assert {name: told[name] for name in columns[7:]} == {
        "task score": "0.875", "p50 ms": "1.25", "p95 ms": "1.5", "on": "cpu-1", "speed-up": "4.0",
        "repeats": "disagree", "predicted ms": "1.1", "prediction error": "0.05", "int8 error": "", "folder": "/a",
    }  # fmt: skip
    assert [value for value in second[7:] if value] == ["0.0312", "/b"]


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
        ("params", "params", "1234"),
        ("params_without_embeddings", "params less embeddings", "234"),
        ("flops", "FLOPs", "5678"),
        ("weight_bytes", "weight bytes", "4936"),
        ("activation_bytes", "activation bytes", "777"),
    ],
)
def test_a_frontier_shows_the_costs_that_were_asked_for(capsys, cost, column, value):
    print_frontier(FrontierDocument(costs=[cost], sequence_length=128, points=[FrontierPoint(**POINT, over_best=0.0)]))
    columns, row = _lines(capsys)
    length = {"length": "128"} if cost in {"flops", "activation_bytes"} else {}
    assert columns == ["sub-space", "shape", column, *length, "held-out loss", "over the best"]
    assert row == ["tiny", SHAPE.describe(), value, *length.values(), "0.5", "0.0"]


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
    assert columns == ["sub-space", "shape", "latency ms", "params", "is", "held-out loss", "over the best"]
    assert [row[2:5] for row in rows] == [["1.5", "1234", "predicted"], ["2.0", "1234", "measured"]]
    assert "p95 on cpu-1, a CPU; predictions are off by 5.1%" in told.err and "Mind the rows." in told.err


@pytest.fixture
def terminal(monkeypatch):
    """The output of tables on a terminal."""
    shown = io.StringIO()
    monkeypatch.setattr(
        tables, "Console", lambda **_: Console(file=shown, width=200, force_terminal=True, color_system=None)
    )
    return shown


def test_on_a_terminal_losses_that_differ_read_differently_and_the_difference_is_shown(terminal):
    losses = [0.000312341, 0.000312349, 0.00031235, 0.5]
    over = over_best(losses)
    print_students([_student(str(n), params=58080, heldout_loss=losses[n], over_best=over[n]) for n in range(4)], [])
    text = terminal.getvalue()
    assert "0.00031234" in text and "0.00031235" in text and "58,080" in text
    for told in ("the best", "+0.0026%", "+0.0029%", "+160,000%"):
        assert told in text


def test_a_student_without_others_beside_it_has_no_distance_to_the_best(capsys):
    print_students([_student("a", over_best=None)], [])
    assert "over the best" not in _lines(capsys)[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.25], ["0.5000", "0.2500"]),
        ([0.00031, 0.00032], ["0.0003100", "0.0003200"]),
        ([1.00001, 1.00002], ["1.00001", "1.00002"]),
        ([0.5, 0.5], ["0.5000", "0.5000"]),
        ([None, 0.123456], ["", "0.1235"]),
        ([], []),
    ],
)
def test_losses_have_as_many_digits_as_tell_them_apart(values, expected):
    assert losses(values) == expected


def test_what_is_piped_has_plain_numbers_and_no_control_characters(capsys):
    print_table("T", ("a", "b", "held-out loss"), [("x\x1b[2J\ty", 7_276_800, 0.000312345678901)])
    assert _lines(capsys)[1] == ["x [2J y", "7276800", "0.000312345678901"]


def test_an_architecture_that_is_none_and_a_time_beyond_the_calendar_are_told_and_break_nothing():
    assert tables.shape({"layers": "x"}) == "not understood"
    assert tables.shape({}) == "not understood"
    assert tables.budgets_of([{"name": "a"}, 3, {}]) == "a, "
    assert tables.when(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))))


def test_fidelity_has_columns_with_intervals_and_a_missed_floor_tells_what_is_missing(capsys):
    fidelity = Fidelity(rows=40, cosine=0.98, neighbours_at_10=0.7, interval={"cosine": (0.97, 0.99)})
    nearest = NearestDocument(**POINT, misses={"min_cosine": 1.0215, "max_params": 1.5}, fidelity={"cosine": 0.9785})
    print_students([_student("a", fidelity=fidelity)], [InfeasibleDocument(budget="b", nearest=[nearest])])
    columns, row, missed = _lines(capsys)
    found = dict(zip(columns, row, strict=True))
    assert (found["cosine"], found["neighbours_at_10"]) == ("0.980 (0.970 to 0.990)", "0.700")
    assert "agreement" not in columns
    assert "at 0.022 below min_cosine, 1.50 x max_params." in missed[0]
