"""Errors of predicted latencies and repeatability of measured ones, on this machine's `cpu-1` target.

    python -m benchmarks.latency

Twenty candidates of the demo's three sub-spaces are measured as in a run (by a Ray actor alone on its core), and a
predictor is fitted on them; its error is the leave-one-out error. Then ten other candidates are exported as students
and measured beside the teacher. They give the predictor's error on unseen candidates, and show whether the two
repeats of each measure agree within 10 %. The smallest of them is measured three times in all.
"""

from __future__ import annotations

import random
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.demo_scene import DemoScene, local_ray
from benchmarks.record import record
from workloads.answers.latency import BUILT_IN_TARGETS, LatencyMeasure
from workloads.answers.latency_model import candidates_to_measure, fit
from workloads.craft.export import build_student
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.runs.latency.latency import (
    Choice,
    SavedStudent,
    build_measure,
    build_samples,
    read_measure,
    read_samples,
)
from workloads.runs.latency.places import Asked
from workloads.shapes.architecture import Architecture

OTHERS, SEED = 10, 1


def main() -> None:
    """Measure and record."""
    scene = DemoScene()
    teacher, run = scene.upload_teacher(), scene.run("benchmark-1")
    target = BUILT_IN_TARGETS["cpu-1"]
    asked = Asked(target, "latency_targets.cpu-1", lambda _: None)
    seen = set(candidates_to_measure(scene.spaces, SEED))
    others = [one for space in scene.spaces for one in space if one not in seen]
    chosen = random.Random(SEED).sample(others, OTHERS)
    for index, one in enumerate(chosen):
        _export(scene, one, f"students/{index}")
    with local_ray():
        samples = read_samples(build_samples(run, asked, teacher, Choice(scene.spaces, SEED), lambda *_: None))

        def measure(index: int, again: str = "") -> LatencyMeasure:
            student = SavedStudent(f"students/{index}", f"{index}{again}")
            return read_measure(build_measure(run, asked, teacher, student))

        measures = [measure(index) for index in range(OTHERS)]
        smallest = min(range(OTHERS), key=lambda index: measures[index].p50_ms)
        again = [measure(smallest, f" again {number}") for number in range(2)]
    model = fit(samples)
    assert model.error is not None
    errors = [abs(model.predict(one) / measure.p50_ms - 1) for one, measure in zip(chosen, measures, strict=True)]
    repeated = [measure.p50_ms for measure in (measures[smallest], *again)]
    record(
        "latency",
        value=statistics.median(errors),
        unit="relative error of the predicted p50 on ten candidates that were not measured for the fit, the median",
        bar=None,
        spread=sorted(errors),
        command="python -m benchmarks.latency",
        target=target.model_dump(mode="json"),
        device=model.device,
        leave_one_out=model.error.model_dump(),
        samples_whose_repeats_agree=sum(sample.agrees for sample in samples.samples),
        samples=len(samples.samples),
        students_whose_repeats_agree=sum(measure.agrees for measure in measures),
        students=[_row(one, measure) for one, measure in zip(chosen, measures, strict=True)],
        smallest_measured_three_times_ms=repeated,
        largest_over_smallest_of_three=max(repeated) / min(repeated),
    )


def _export(scene: DemoScene, one: Architecture, place: str) -> None:
    space = next(space for space in scene.spaces if one in set(space))
    superlm = SuperLM.from_teacher(scene.teacher.weights, space, wiring_of(scene.teacher))
    folder = Path(scene.storage.path(place))
    shutil.rmtree(folder, ignore_errors=True)
    build_student(scene.teacher, one, superlm.extract(one)).save_pretrained(folder)


def _row(one: Architecture, measure: LatencyMeasure) -> dict[str, Any]:
    return {
        "shape": one.describe(),
        "p50_ms": round(measure.p50_ms, 3),
        "p95_ms": round(measure.p95_ms, 3),
        "speed_up": round(measure.speed_up, 2),
        "agrees": measure.agrees,
    }


if __name__ == "__main__":
    main()
