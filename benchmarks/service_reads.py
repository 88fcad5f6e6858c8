"""Rate and latency of reads of jobs while a compression trains.

    python -m benchmarks.service_reads [--seconds 20] [--repeats 3]

A real service (SQLite, an embedded Ray of one CPU) trains the demo's SuperLMs. On the machine's other core it answers
`GET /v1/compressions/{id}` for that job and 200 others. A client of plain sockets, on the same core, reads without a
pause over 8 connections. Each read gives the whole document with its live steps.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from typing import Any

from benchmarks.record import record
from benchmarks.service_scene import Served, demo_request, serving
from services.jobs.states import JobStatus

CONNECTIONS, OTHERS = 8, 200
READS_A_SECOND, P99_MS = 300, 100
_FOREVER = 100_000_000


async def _read(port: int, paths: itertools.cycle[str], until: float, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        writer.write(f"GET {next(paths)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        taken.append(time.perf_counter() - begun)
    writer.close()


async def _storm(port: int, paths: list[str], seconds: float) -> list[float]:
    taken: list[float] = []
    until = time.perf_counter() + seconds
    cycles = [itertools.cycle(paths[start:] + paths[:start]) for start in range(CONNECTIONS)]
    await asyncio.gather(*(_read(port, cycle, until, taken) for cycle in cycles))
    return sorted(taken)


def _trained(served: Served, job_id: str) -> int:
    return sum(step.done for step in served.client.get(job_id).steps if step.name.startswith("train"))


def measure(seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Load a service that trains, several times."""
    with serving(ray_cpus="1", max_running="1", ray_object_store_bytes=str(200 << 20)) as served:
        training = served.client.submit(demo_request(_FOREVER)).id
        others = [served.client.submit(demo_request(_FOREVER)).id for _ in range(OTHERS)]
        while not _trained(served, training):
            if served.client.get(training).status is not JobStatus.RUNNING:
                time.sleep(0.5)
            time.sleep(0.5)
        paths = [f"/v1/compressions/{one}" for one in [training, *others]]
        rounds = []
        for _ in range(repeats):
            before = _trained(served, training)
            taken = asyncio.run(_storm(served.port, paths, seconds))
            rounds.append(
                {
                    "reads_a_second": round(len(taken) / seconds, 1),
                    "p50_ms": round(1000 * taken[len(taken) // 2], 2),
                    "p99_ms": round(1000 * taken[int(0.99 * len(taken))], 2),
                    "worst_ms": round(1000 * taken[-1], 2),
                    "tokens_trained_meanwhile": _trained(served, training) - before,
                }
            )
        served.client.cancel(training)
    return rounds


def main() -> None:
    """Measure, and record the slowest round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rounds = measure(options.seconds, options.repeats)
    record(
        "service_reads",
        min(one["reads_a_second"] for one in rounds),
        "reads of a job a second, slowest round, while a compression trains",
        f"at least {READS_A_SECOND}, p99 at most {P99_MS} ms",
        [one["reads_a_second"] for one in rounds],
        "python -m benchmarks.service_reads",
        p99_ms=max(one["p99_ms"] for one in rounds),
        connections=CONNECTIONS,
        jobs=OTHERS + 1,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
