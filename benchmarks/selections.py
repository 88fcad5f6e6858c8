"""Response time of new budgets on a finished compression.

    python -m benchmarks.selections [--repeats 100]

A real service (SQLite, no Ray) has a finished search of 168 candidates (the default sub-spaces) and one of 768 (the
paper's). One client asks each over HTTP for two budgets without a latency limit, never the same twice. Each answer is
the whole document, with a queued job in the database. The first answer of each search, which reads the scores table
from the storage, is reported separately.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import record
from benchmarks.service_scene import Served, demo_request, serving
from services.service import Service
from services.settings import load_settings
from tests.services.searched import finished
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import paper_spaces, relative_spaces
from workloads.shapes.teacher_files import named_shape

P50_MS = 50
_NO_RAY = "http://127.0.0.1:9"
_SHAPE = named_shape("bert-base")


def _milliseconds(served: Served, job: str, spaces: Sequence[ProductSpace], repeats: int) -> list[float]:
    """Time repeated requests, each with other limits that some candidates meet."""
    costs = [student_cost(_SHAPE, one) for space in spaces for one in space]
    params, flops = sorted(cost.params for cost in costs), sorted(cost.flops for cost in costs)
    taken = []
    for number in range(repeats + 1):
        at = len(costs) * number // (repeats + 1)
        budgets = [
            {"name": "small", "max_params": params[at] + number},
            {"name": "quick", "max_flops": flops[at] + number},
        ]
        begun = time.perf_counter()
        found = served.client.select(job, {"budgets": budgets})
        taken.append(1000 * (time.perf_counter() - begun))
        assert len(found.students) == len(budgets) and not found.provisional, found
    return taken


def measure(repeats: int) -> dict[int, dict[str, Any]]:
    """Serve both searches and ask them for budgets; return the times by number of candidates."""
    scenes = [relative_spaces(_SHAPE, 3), paper_spaces()]
    measured = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        storage = str(Path(folder) / "storage")
        service = Service(load_settings(storage=storage, ray_address=_NO_RAY, insecure_local=True))
        jobs = [finished(service, demo_request(10_000_000), shape=_SHAPE, spaces=spaces).id for spaces in scenes]
        service.close()
        with serving(storage=storage, ray_address=_NO_RAY) as served:
            for job, spaces in zip(jobs, scenes, strict=True):
                first, *rest = _milliseconds(served, job, spaces, repeats)
                ranks = statistics.quantiles(rest, n=20)
                measured[sum(map(len, spaces))] = {
                    "p50_ms": round(statistics.median(rest), 2),
                    "p95_ms": round(ranks[-1], 2),
                    "first_ms": round(first, 2),
                }
    return measured


def main() -> None:
    """Measure, and record the slower search's median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    measured = measure(options.repeats)
    slowest = max(one["p50_ms"] for one in measured.values())
    record(
        "selections",
        slowest,
        "ms to the answer to two new budgets, p50 of the larger search",
        f"p50 at most {P50_MS} ms",
        [one["p50_ms"] for one in measured.values()],
        "python -m benchmarks.selections",
        candidates=measured,
        repeats=options.repeats,
    )


if __name__ == "__main__":
    main()
