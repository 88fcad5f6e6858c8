"""CPU time of the service for a page of 50 jobs out of 10,000, for each kind of filter.

    python -m benchmarks.service_lists [--database postgresql://…]

The application answers in this process, without a socket, and its CPU-seconds are measured over 40 pages of each list.
The database has 10,000 ended compressions of two tenants, with two students each; 200 have a rare label and teacher.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.orm import Session

from benchmarks.record import record
from services.api.app import create_app
from services.jobs.records import NewJob
from services.jobs.states import LOCAL_TENANT, AttemptStatus, JobStatus
from services.jobs.store import new_row
from services.jobs.summaries import with_students
from services.jobs.tables import AttemptRow, JobRow
from services.service import Service
from services.settings import load_settings

JOBS, PAGE, ROUNDS, RARE = 10_000, 50, 40, 50
BAR_MS = 10
LISTS = {
    "all": "",
    "second page": "after=5000",
    "by state": "status=succeeded",
    "by state, none": "status=running",
    "by label": "label=team:search",
    "by rare label": "label=rare:yes",
    "by label, none": "label=team:nobody",
    "by teacher": "teacher=google/bert",
    "by rare teacher": "teacher=google/rare",
    "by teacher, none": "teacher=google/none",
    "by label and state, none": "label=team:search&status=failed",
    "by batch, none": "batch=bat_none",
}


def fill(service: Service) -> None:
    """Add the jobs, with requests and results of real size, without the API's checks."""
    now = datetime.now(UTC)
    for begin in range(0, JOBS, 500):
        with Session(service.engine) as session, session.begin():
            for number in range(begin, begin + 500):
                session.add(_row(number, now))


def _row(number: int, now: datetime) -> JobRow:
    rare = number % RARE == 0
    request: dict[str, Any] = {
        "teacher": {"model": "google/rare" if rare else "google/bert"},
        "corpus": {"paths": [f"/data/corpus/{n}.txt" for n in range(20)]},
        "budgets": [{"name": f"edge-{n}", "max_params": 8_000_000} for n in range(3)],
        "labels": {"team": "search", "number": str(number), **({"rare": "yes"} if rare else {})},
        "training": {name: n for n, name in enumerate("abcdefghijklmnop")},
    }
    student = {
        "id": "stu_1", "budget": "edge-0", "subspace": "tiny", "architecture": {"layers": 4, "hidden_size": 128},
        "params": 7_000_000, "flops": 10**9, "sequence_length": 128, "heldout_loss": 0.25, "files": "artifacts/x",
    }  # fmt: skip
    row = new_row(NewJob(request, tenant=LOCAL_TENANT if number % 2 else "other"))
    row.status, row.attempt, row.started_at, row.finished_at = JobStatus.SUCCEEDED, 1, now, now
    row.result = {"status": "succeeded", "students": [student, student], "infeasible": [], "artifacts": {}}
    row.summary = with_students(row.summary, [student, student])
    row.steps = [{"name": f"step {n}", "status": "succeeded", "done": 9, "total": 9} for n in range(8)]
    done = AttemptStatus.SUCCEEDED
    row.attempts = [AttemptRow(number=1, status=done, submission_id=row.id, started_at=now, finished_at=now)]
    return row


async def _measure(service: Service) -> dict[str, dict[str, float]]:
    found = {}
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for name, query in LISTS.items():
            place = f"/v1/compressions?limit={PAGE}&{query}"
            (await client.get(place)).raise_for_status()
            taken = []
            for _ in range(ROUNDS):
                begun = time.process_time()
                answer = await client.get(place)
                taken.append(1000 * (time.process_time() - begun))
            taken.sort()
            rows = len(answer.json()["compressions"])
            found[name] = {"cpu_ms": round(taken[ROUNDS // 2], 2), "worst_ms": round(taken[-1], 2), "rows": rows}
    return found


def main() -> None:
    """Measure, and record the most expensive list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; default: an SQLite file.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        given = {"storage": str(Path(folder) / "storage"), "ray_address": "http://127.0.0.1:9", "insecure_local": True}
        service = Service(load_settings(**given, database=options.database))
        try:
            fill(service)
            lists = asyncio.run(_measure(service))
        finally:
            service.close()
    kind = "postgresql" if options.database else "sqlite"
    record(
        f"service_lists_{kind}",
        max(one["cpu_ms"] for one in lists.values()),
        f"ms of the service's CPU for a page of {PAGE} of {JOBS} jobs, the median of the dearest list",
        f"at most {BAR_MS}",
        [one["cpu_ms"] for one in lists.values()],
        "python -m benchmarks.service_lists" + (" --database postgresql://…" if options.database else ""),
        lists=lists,
    )


if __name__ == "__main__":
    main()
