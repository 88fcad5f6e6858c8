"""The learning rate of fine-tuning on tasks: a distilled student and its teacher on four tasks, at several rates.

    python -m benchmarks.quality.tuning_rates --data FOLDER [--work FOLDER] [--models student teacher] [--seeds 0 1]

The teacher is minilm; the student is a 4 x 256 one with 640 neurons, about a quarter of the teacher's
multiply-accumulates, distilled alone for 0.2 M tokens of `corpus/en_train.parquet`. Each is fine-tuned by the product's
evaluation on the first 1,000 rows of SST-2, MRPC, RTE and STS-B for two epochs, once for each rate and seed. The epoch
is chosen on the training rows set aside. Points are those of `benchmarks.quality`: accuracy, for MRPC the mean of
accuracy and F1, for STS-B Spearman's correlation, on the validation rows.

The value is the single rate with the best task average, over both models. Beside it is the average of sets of rates,
where each fine-tuning keeps the rate that is best on the rows set aside. Single results are kept in the work folder, so
that an interrupted benchmark goes on. Only tasks and seeds that a model was tried on at every rate are averaged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
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


def complete(results: list[Result]) -> list[Result]:
    """Keep the results of models, tasks and seeds that were tried at every rate."""
    tried: dict[tuple[str, str, int], set[float]] = {}
    for one in results:
        tried.setdefault(_group(one), set()).add(one["rate"])
    return [one for one in results if tried[_group(one)] >= set(RATES)]


def average(results: list[Result], rates: tuple[float, ...]) -> float:
    """Mean over models of the mean over their tasks, in points.

    Each fine-tuning keeps the one of ``rates`` that is best on the rows set aside.
    """
    by_task: dict[tuple[str, str], list[float]] = {}
    for (model, task, _), tried in _groups(results, rates).items():
        by_task.setdefault((model, task), []).append(max(tried, key=lambda one: one["set_aside"])["points"])
    by_model: dict[str, list[float]] = {}
    for (model, _), found in by_task.items():
        by_model.setdefault(model, []).append(statistics.mean(found))
    return statistics.mean(statistics.mean(found) for found in by_model.values())


def _group(one: Result) -> tuple[str, str, int]:
    return one["model"], one["task"], one["seed"]


def _groups(results: list[Result], rates: tuple[float, ...]) -> dict[tuple[str, str, int], list[Result]]:
    found: dict[tuple[str, str, int], list[Result]] = {}
    for one in results:
        if one["rate"] in rates:
            found.setdefault(_group(one), []).append(one)
    return found


def main() -> None:
    """Fine-tune and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with corpus/ and tasks/.")
    parser.add_argument("--work", type=Path, default=Path(".bench-quality"), help="Folder of intermediate results.")
    parser.add_argument("--models", nargs="+", choices=("student", "teacher"), default=["student", "teacher"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--record", action="store_true", help="Fine-tune nothing; record what is there.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(given.data, given.work)
    runs = itertools.product(given.models, given.seeds, AVERAGED, RATES)
    for model, seed, task, rate in () if given.record else runs:
        bench.tune(model, task, seed, rate)
    results = complete(bench.results())
    single = {rate: average(results, (rate,)) for rate in RATES}
    record(
        "tuning_rates",
        value=max(single, key=lambda rate: single[rate]),
        unit="learning rate with the best mean of both models, over the tasks and seeds that were tried at every rate",
        bar=None,
        spread=None,
        command="python -m benchmarks.quality.tuning_rates --data FOLDER",
        points_of_each_rate={f"{rate:g}": round(found, 2) for rate, found in single.items()},
        points_of_each_rate_by_model={model: _by_rate(results, model) for model in given.models},
        points_of_the_best_of_several_on_rows_set_aside={
            " ".join(f"{rate:g}" for rate in rates): round(average(results, rates), 2) for rates in SETS
        },
        seeds_and_tasks={
            model: sorted({(one["seed"], one["task"]) for one in results if one["model"] == model})
            for model in given.models
        },
        tuning=TUNING,
        results=results,
    )


def _by_rate(results: list[Result], model: str) -> dict[str, float]:
    own = [one for one in results if one["model"] == model]
    return {f"{rate:g}": round(average(own, (rate,)), 2) for rate in RATES} if own else {}


if __name__ == "__main__":
    main()
