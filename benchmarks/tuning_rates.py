"""The learning rate of fine-tuning on tasks: a distilled student and its teacher on four tasks, at several rates.

    python -m benchmarks.tuning_rates --data FOLDER [--work FOLDER] [--models student teacher] [--seeds 0 1]

The teacher is minilm; the student is a 4 x 256 one with 640 neurons, about a quarter of the teacher's
multiply-accumulates, distilled alone for 0.2 M tokens of `corpus/en_train.parquet`. Each is fine-tuned by the product's
evaluation on the first 1,000 rows of SST-2, MRPC, RTE and STS-B for two epochs, once for each rate and seed. The epoch
is chosen on the training rows set aside. Points are those of `benchmarks.quality`: accuracy, for MRPC the mean of
accuracy and F1, for STS-B Spearman's correlation, on the validation rows.

The value is the task average of the best single rate, over both models. Beside it is the average of each set of rates
where each fine-tuning keeps the rate that is best on the rows set aside. Single results are kept in the work folder, so
that an interrupted benchmark goes on; the record is written once all are there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality import tasks
from benchmarks.quality.places import Places
from benchmarks.quality.scene import Scene
from benchmarks.quality.statistics import AVERAGED, points
from benchmarks.record import record
from workloads.craft.export import build_student
from workloads.craft.superlm_files import build_superlm, load_superlm, save_superlm, wiring_of
from workloads.craft.tasks.evaluating import TaskModel
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace
from workloads.spec.request import TrainingSpec

RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
LAYERS, HIDDEN, NEURONS, TOKENS, SEED = 4, 256, 640, 200_000, 0
SCENE = {
    "teacher": "minilm", "corpus": "en_train.parquet", "sequence_length": 64, "batch_size": 32, "heldout_rows": 128,
    "objective": {}, "seed": 1,
}  # fmt: skip
TUNING = {"train_rows": 1000, "epochs": 2, "batch_size": 32, "sequence_length": 128}
SETS = ((5e-4, 1e-3), (2e-4, 5e-4), (1e-4, 5e-4), (1e-4, 2e-4, 5e-4), RATES)
Result = dict[str, Any]
"""Model, task, seed, rate, points on the validation rows, and the score on the rows set aside."""


class Bench:
    """Teacher, student and results."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.scene = Scene(SCENE, Places(work, data))
        shape = self.scene.teacher.shape
        self.student = Architecture.alike(
            layers=LAYERS,
            hidden_size=HIDDEN,
            heads=HIDDEN // shape.head_width,
            head_width=shape.head_width,
            intermediate_size=NEURONS,
            teacher_layers=shape.layers,
        )
        self._file = work / "tuning_rates.jsonl"

    def results(self) -> list[Result]:
        """The results so far."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def tune(self, model: str, task: str, seed: int, rate: float) -> None:
        """Fine-tune once, unless its result is there."""
        wanted = {"model": model, "task": task, "seed": seed, "rate": rate}
        if any(wanted.items() <= found.items() for found in self.results()):
            return
        request = tasks.request_of(task, self.data, {**TUNING, "learning_rates": [rate]})
        score, answers_M = tasks.tune(self._model(model), request, seed, torch.device("cpu"), lambda *_: None)
        labels_M = tasks.labels_of(task, self.data).astype(np.float64)
        (found,) = points(task, answers_M.astype(np.float64), labels_M, np.ones((1, len(labels_M))))
        line = {**wanted, "points": round(float(found), 3), "set_aside": score["validation_score"]}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _model(self, name: str) -> TaskModel:
        teacher = self.scene.teacher
        if name == "teacher":
            return TaskModel(teacher.model, teacher.tokenizer)
        folder = self.work / "tuning_rates_student"
        if not folder.exists():
            save_superlm(folder, self._distilled().superlm)
        superlm = load_superlm(folder, wiring_of(teacher))
        return TaskModel(build_student(teacher, self.student, superlm.extract(self.student)), teacher.tokenizer)

    def _distilled(self) -> Member:
        scene = self.scene
        steps = TOKENS // (scene.length * scene.batch_size)
        built = build_superlm(scene.teacher, ListedSpace("student", (self.student,)), order=scene.order)
        member = Member(ListedSpace("student", (self.student,)), built.superlm, built.head_order, steps)
        training = TrainingSpec(
            tokens_per_superlm=TOKENS,
            sequence_length=scene.length,
            batch_size=scene.batch_size,
            learning_rate=2e-3,
            dropout=0.0,
        )
        trainer = GroupTrainer(
            scene.teacher, {"student": member}, scene.objective, training, seed=SEED, worker=Worker(scene.device)
        )
        with closing(scene.batches(SEED, 0)) as batches:
            for step, batch in enumerate(itertools.islice(batches, steps)):
                trainer.step(step, batch)
        return member


def average(results: list[Result], rates: tuple[float, ...]) -> float:
    """Task average where each fine-tuning keeps the one of ``rates`` that is best on the rows set aside."""
    by_task: dict[str, list[float]] = {}
    for task, tried in _tried(results, rates):
        by_task.setdefault(task, []).append(max(tried, key=lambda one: one["set_aside"])["points"])
    return statistics.mean(statistics.mean(found) for found in by_task.values())


def _tried(results: list[Result], rates: tuple[float, ...]) -> Iterator[tuple[str, list[Result]]]:
    """Group the results of the rates by what else they have in common, each with its task."""
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for one in results:
        if one["rate"] in rates:
            groups.setdefault((one["model"], one["task"], one["seed"]), []).append(one)
    return ((task, found) for (_, task, _), found in groups.items())


def main() -> None:
    """Fine-tune and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with corpus/ and tasks/.")
    parser.add_argument("--work", type=Path, default=Path(".bench-quality"), help="Folder of intermediate results.")
    parser.add_argument("--models", nargs="+", choices=("student", "teacher"), default=["student", "teacher"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(given.data, given.work)
    for model, seed, task, rate in itertools.product(given.models, given.seeds, AVERAGED, RATES):
        bench.tune(model, task, seed, rate)
    results = [one for one in bench.results() if one["model"] in given.models and one["seed"] in given.seeds]
    single = {rate: average(results, (rate,)) for rate in RATES}
    best = max(single, key=lambda rate: single[rate])
    record(
        "tuning_rates",
        value=best,
        unit="learning rate with the best task average of both models",
        bar=None,
        spread=None,
        command="python -m benchmarks.tuning_rates --data FOLDER",
        points_by_model_and_rate={
            model: {
                f"{rate:g}": {
                    "average": round(average([one for one in results if one["model"] == model], (rate,)), 2),
                    **{
                        task: [
                            one["points"]
                            for one in results
                            if (one["model"], one["task"], one["rate"]) == (model, task, rate)
                        ]
                        for task in AVERAGED
                    },
                }
                for rate in RATES
            }
            for model in given.models
        },
        best_of_several_on_rows_set_aside={
            " ".join(f"{rate:g}" for rate in rates): round(average(results, rates), 2) for rates in SETS
        },
        average_of_each_rate={f"{rate:g}": round(found, 2) for rate, found in single.items()},
        seeds=given.seeds,
        tuning=TUNING,
    )


if __name__ == "__main__":
    main()
