"""Two data-parallel workers against one: difference of the losses, and speed-up.

    python -m benchmarks.data_parallel

The demo's three SuperLMs are trained together on Ray Train, without dropout, for 40 steps: by one worker on one core,
by two workers on a core each, and by one worker on both cores. Rates are tokens a second between the first and the
last report, without the run's start. The largest relative difference between the losses of one worker and of two
shows that they train the same.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.demo_scene import BATCH, LENGTH, DemoScene, local_ray
from benchmarks.record import record
from workloads.documents.job_folder import JobFolder
from workloads.methods.steps import train_step
from workloads.runs.attempt.progress import Progress
from workloads.runs.training.train import TrainingInputs, train_superlms
from workloads.spec.request import CompressionRequest, parse_request

STEPS = 40


def main() -> None:
    """Measure and record."""
    scene = DemoScene()
    one = _run(scene, cores=1, workers=1)
    two = _run(scene, cores=2, workers=2)
    threads = _run(scene, cores=2, workers=1)
    difference = max(
        abs(one["losses"][point] - two["losses"][point]) / one["losses"][point]
        for point in one["losses"].keys() & two["losses"].keys()
    )
    record(
        "data_parallel",
        value=two["tokens_per_second"] / one["tokens_per_second"],
        unit="speed of two workers on a core each / one worker on one core",
        bar=None,
        spread=None,
        command="python -m benchmarks.data_parallel",
        against_one_worker_on_two_cores=two["tokens_per_second"] / threads["tokens_per_second"],
        largest_relative_difference_of_losses=difference,
        tokens_per_second={
            "one worker, one core": one["tokens_per_second"],
            "two workers, a core each": two["tokens_per_second"],
            "one worker, two cores": threads["tokens_per_second"],
        },
        compared_points=len(one["losses"].keys() & two["losses"].keys()),
        steps=STEPS,
        tokens_of_a_step=BATCH * LENGTH,
    )


def _run(scene: DemoScene, *, cores: int, workers: int) -> dict[str, Any]:
    reports: list[tuple[float, int]] = []
    losses: dict[str, float] = {}

    class Heard(Progress):
        def point(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if name == train_step("base"):
                reports.append((time.monotonic(), done))
            for metric in ("loss_largest", "loss_smallest"):
                losses[f"{name}/{done}/{metric}"] = metrics[metric]

    progress = Heard(JobFolder(scene.storage, "benchmark"), 1)
    progress.declare([train_step(space.name) for space in scene.spaces])
    run = scene.run(f"benchmark-{cores}-{workers}", progress)
    inputs = TrainingInputs(_request(workers), scene.upload_teacher(), scene.corpus)
    with local_ray(cores):
        train_superlms(run, inputs, scene.spaces)
    scene.storage.remove("artifacts/superlm")  # so that the next run trains anew
    (began, first), (ended, last) = reports[0], reports[-1]
    return {"tokens_per_second": (last - first) / (ended - began), "losses": losses}


def _request(workers: int) -> CompressionRequest:
    return parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": ["speeches"]},
            "training": {
                "tokens_per_superlm": STEPS * BATCH * LENGTH,
                "sequence_length": LENGTH,
                "batch_size": BATCH,
                "learning_rate": 2e-3,
                "dropout": 0.0,
                "workers": workers,
                "placement": "together",
            },
            "budgets": [{"name": "any", "max_params": 10**9}],
            "seed": 1,
        }
    )


if __name__ == "__main__":
    main()
