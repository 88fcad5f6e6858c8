"""Lists of jobs: every filter uses an index, and no single row breaks a list."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event, text

from services.jobs.records import JobFilter, NewJob
from services.jobs.states import JobStatus

FILTERS = [
    JobFilter(),
    JobFilter(tenant="a"),
    JobFilter("plan", "a", JobStatus.QUEUED),
    JobFilter(status=JobStatus.FAILED),
    JobFilter(tenant="a", labels={"x": "1", "y": "2"}),
    JobFilter(teachers=("b", "/b"), status=JobStatus.FAILED),
    JobFilter("evaluation", "a", parent="cmp_1", student="stu_1"),
    JobFilter(batch="bat_1", tenant="a"),
]


@pytest.fixture
def statements(engine) -> Iterator[list]:
    seen = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, given, *_: seen.append((statement, given)))
    yield seen
    seen.clear()


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_page_is_found_by_indexes_alone(engine, store, statements, wanted):
    for number in range(3):
        store.create(NewJob({"teacher": {"model": "b"}, "labels": {"x": "1", "n": str(number)}}, tenant="a"))
    statements.clear()
    store.summaries(wanted, limit=2, before=3)
    asked = [one for one in statements if one[0].startswith("SELECT")]
    assert asked
    with engine.connect() as connection:
        for statement, given in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
            assert not [step for *_, step in plan if step.startswith(("SCAN jobs", "SCAN job_tags"))], (statement, plan)


def test_filters_hold_together_and_pages_lead_on(store):
    ids = [
        store.create(
            NewJob({"teacher": {"model": "bc"[n % 2]}, "labels": {"x": "1", "n": str(n)}}, tenant="at"[n // 4])
        ).id
        for n in range(8)
    ]
    store.create(NewJob({"teacher": {"model": "b"}, "labels": {"x": "1"}}, "plan", tenant="a"))

    def found(limit=50, before=None, **wanted):
        return [one.id for one in store.summaries(JobFilter(**wanted), limit=limit, before=before)]

    assert found() == ids[::-1]
    assert found(tenant="a", teachers=("b",), labels={"x": "1"}) == [ids[2], ids[0]]
    assert found(teachers=("b", "c"), limit=3) == ids[:4:-1]
    assert found(teachers=("b", "c"), limit=3, before=6) == ids[4:1:-1]
    assert found(labels={"x": "1", "n": "3"}) == [ids[3]]
    assert found(labels={"x": "1", "n": "3"}, tenant="t") == found(teachers=("d",)) == []
    store.request_cancel(ids[2])
    assert found(teachers=("b",), status=JobStatus.CANCELLED) == [ids[2]]
    store.delete(ids[2], lambda _: None)
    assert found(teachers=("b",), tenant="a") == [ids[0]]


def _spoil(service, job_id, column, value):
    with service.engine.begin() as connection:
        connection.execute(text(f"UPDATE jobs SET {column} = :value WHERE id = :id"), {"value": value, "id": job_id})


SPOILS = [
    ("summary", '{"teacher": "a\\ud800", "labels": {"\\udfff": "b"}, "budgets": [], "students": []}'),
    ("summary", '{"teacher": 3}'),
    ("summary", "[]"),
    ("request", '{"teacher": {"model": "\\ud800"}, "labels": {"a": "\\ud800"}}'),
    ("result", '{"status": "succeeded", "students": [{"id": 1}]}'),
    ("result", '{"of": "another version"}'),
    ("steps", '[{"bad": "step"}]'),
    ("answer", '{"students": 3}'),
]


def test_one_row_that_cannot_be_shown_breaks_no_list_and_is_shown_as_far_as_can_be(
    service, http_client, finished_job, make_request
):
    task = {"kind": "single", "train": ["/x.csv"], "test": ["/x.csv"], "text_columns": ["x"]}
    for kind in ("compression", "plan", "evaluation", "selection"):
        given = {"model": {"teacher": {"model": "a/b"}}, "task": task} if kind == "evaluation" else make_request()
        parent = finished_job.id if kind == "selection" else None
        made = [service.store.create(NewJob(given, kind, parent=parent)).id for _ in range(len(SPOILS) + 1)]
        for job_id, (column, value) in zip(made, SPOILS, strict=False):
            _spoil(service, job_id, column, value)
        page = http_client.get(f"/v1/compressions/{parent}/selections" if parent else f"/v1/{kind}s")
        assert page.status_code == 200, page.text
        assert set(made) <= {one["id"] for one in next(iter(page.json().values()))}
        for job_id, spoilt in zip(made, SPOILS, strict=False):
            shown = http_client.get(f"/v1/{kind}s/{job_id}")
            assert shown.status_code == 200, (kind, spoilt, shown.text)
            cancelled = http_client.post(f"/v1/{kind}s/{job_id}/cancel")
            assert cancelled.status_code == 202, (kind, spoilt, cancelled.text)
            assert http_client.delete(f"/v1/{kind}s/{job_id}").status_code == 204, (kind, spoilt)
