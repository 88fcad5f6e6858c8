"""Evaluation of a model on a task: fine-tune on training rows, choose on rows set aside, score at the end.

The rows to score on are not part of the :class:`EncodedTask` that fine-tuning and choosing use. Only the chosen model
reads them, once.

Shape letters: N training rows, M rows to score on.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workloads.craft.families import family_of
from workloads.craft.latency.runtimes import load_model
from workloads.craft.tasks.data import LabelledRows, read_task
from workloads.craft.tasks.encoding import EncodedRows, EncodedTask, encode_rows
from workloads.craft.tasks.finetuning import FineTuning, classifier
from workloads.craft.tasks.metrics import Values, scores
from workloads.craft.teacher import open_teacher
from workloads.craft.text.tokenizer import open_tokenizer
from workloads.spec.errors import InputError
from workloads.spec.evaluation import TASK, BaselineDocument, EvaluationRequest, SeedScore, renamed, with_fitting_length

Report = Callable[[int, int], None]
"""Callback with the number of steps done and of all steps."""
EpochReport = Callable[[int, int, dict[str, float]], None]
"""Callback after each epoch with the same numbers, and with its loss and its score on the rows set aside."""


def _unheard(*_: object) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Reports:
    """Listeners of a fine-tuning.

    Attributes:
        step: Called at the beginning and after every step.
        epoch: Called after every epoch.
    """

    step: Report = _unheard
    epoch: EpochReport = _unheard


@dataclass(frozen=True)
class TaskModel:
    """A saved teacher or student that is to be evaluated on tasks."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def student(cls, folder: Path) -> TaskModel:
        """Load a student from a local folder."""
        return cls(load_model(folder), open_tokenizer(folder))

    @classmethod
    def teacher(cls, folder: Path) -> TaskModel:
        """Load a teacher from a local folder.

        Raises:
            InputError: The teacher cannot be used; see :func:`workloads.craft.teacher.open_teacher`.
        """
        opened = open_teacher(folder)
        return cls(opened.model, opened.tokenizer)

    @property
    def longest(self) -> int:
        """Longest input, in tokens."""
        return family_of(self.model.config.model_type).shape(self.model).longest


@dataclass(frozen=True)
class EvaluationData:
    """A task, ready to evaluate a model on.

    Attributes:
        task: Rows to train on; its ``validation`` holds the training rows set aside.
        scored: Rows to score on.
        classes: Label of each class, in order; empty for a regression.
        rows_in_training: Number of rows to score on whose texts are also training rows.
        baseline: Score of a constant answer.
    """

    task: EncodedTask
    scored: EncodedRows
    classes: tuple[int, ...]
    rows_in_training: int
    baseline: BaselineDocument


def prepare(request: EvaluationRequest, model: TaskModel) -> EvaluationData:
    """Read the task's files, set training rows aside, and tokenise all rows.

    Raises:
        InputError: The files cannot be used, there are too few training rows, or ``sequence_length`` is over the
            model's longest input.
    """
    request = with_fitting_length(request, model.longest)
    try:
        data = read_task(request.task_spec(), TASK)
    except InputError as error:
        raise renamed(error, f"{TASK}.validation", f"{TASK}.{request.task.scored_on}") from error
    train, aside = set_aside(data.train, request.task.set_aside, regression=not data.classes)
    tokenizer, types = model.tokenizer, getattr(model.model.config, "type_vocab_size", 0) > 1
    encoded = [encode_rows(rows, request.sequence_length, tokenizer, types) for rows in (train, aside, data.validation)]
    task = EncodedTask(encoded[0], encoded[1], data.outputs, not data.classes, tokenizer.pad_token_id)
    known = set(zip(*data.train.texts, strict=True))
    return EvaluationData(
        task,
        encoded[2],
        data.classes,
        sum(texts in known for texts in zip(*data.validation.texts, strict=True)),
        constant_baseline(data.train.labels, data.validation.labels, main_score(request, data.classes), data.classes),
    )


def set_aside(rows: LabelledRows, share: float, *, regression: bool) -> tuple[LabelledRows, LabelledRows]:
    """Split training rows into rows to train on and rows to choose the epoch on, the same for every seed.

    A hash of the texts decides, so that rows of equal texts stay on one side, in any order. The share set aside is the
    same in each class.

    Raises:
        InputError: There are too few rows to set any aside.
    """
    texts = list(zip(*rows.texts, strict=True))
    strata = [0] * len(rows) if regression else rows.labels.tolist()
    quotas = {stratum: int(share * count + 0.5) for stratum, count in Counter(strata).items()}
    places: dict[tuple[str, ...], list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    aside: list[int] = []
    for text in sorted(places, key=_digest):
        stratum = strata[places[text][0]]
        if len(places[text]) <= quotas[stratum]:
            quotas[stratum] -= len(places[text])
            aside += places[text]
    kept = sorted(set(range(len(rows))) - set(aside))
    if not aside or not kept:
        raise InputError.of(
            f"{TASK}.train",
            f"It has {len(rows)} rows, too few to set {share:.0%} of them aside to choose the epoch on.",
            f"Give more rows, or a larger '{TASK}.set_aside'.",
        )
    return _only(rows, kept), _only(rows, sorted(aside))


def main_score(request: EvaluationRequest, classes: Sequence[int]) -> str:
    """Return the name of the score that the request's metric stands for."""
    average = f1_average(request, classes)
    return f"f1_{average}" if average else request.task.metric


def f1_average(request: EvaluationRequest, classes: Sequence[int]) -> Literal["binary", "macro"] | None:
    """Return how F1 is averaged for a task with these classes; None if the metric is not F1."""
    if request.task.metric != "f1":
        return None
    return "binary" if len(classes) == 2 else "macro"


def constant_baseline(
    train_N: npt.NDArray[np.generic], scored_M: npt.NDArray[np.generic], main: str, classes: Sequence[int]
) -> BaselineDocument:
    """Score a constant answer for all rows: the class that scores best on the training rows, or their mean.

    Args:
        train_N: Labels of the training rows; classes from 0, or values.
        scored_M: Labels of the rows to score on.
        main: Name of the score; see :func:`main_score`.
        classes: Label of each class; empty for a regression.
    """
    trained, scored = train_N.astype(np.float64), scored_M.astype(np.float64)

    def all_alike(answer: float, labels: Values) -> dict[str, float]:
        return scores(np.full(len(labels), answer), labels, len(classes))

    if classes:
        common = Counter(trained.tolist())
        # With equal scores (Matthews' correlation is 0 for all) the majority class wins.
        answer = max(common, key=lambda one: (all_alike(one, trained)[main], common[one], -one))
        shown = float(classes[int(answer)])
    else:
        answer = shown = float(trained.mean())
    found = all_alike(answer, scored)
    return BaselineDocument(answer=shown, score=found[main], scores=found)


def steps_in_all(request: EvaluationRequest, data: EvaluationData) -> int:
    """Return the number of steps of one seed's fine-tuning."""
    return len(request.learning_rates) * request.epochs * -(-len(data.task.train) // request.batch_size)


def evaluate_seed(
    base: PreTrainedModel,
    data: EvaluationData,
    request: EvaluationRequest,
    seed: int,
    device: torch.device,
    reports: Reports = Reports(),
) -> SeedScore:
    """Fine-tune the model with each learning rate, and score the best epoch of all.

    Args:
        base: A model without a head; it is not changed.
        data: Data of the same request.
        request: Epochs, learning rates, batch size and metric.
        seed: Seed of the head's initial values, of dropout and of the order of rows.
        device: The device to train on.
        reports: Listeners.

    Raises:
        InputError: Fine-tuning diverged with every learning rate.
    """
    return fine_tune(base, data, request, seed, device, reports).score


@dataclass(frozen=True)
class FineTuned:
    """The result of one fine-tuning.

    Attributes:
        score: Scores of the chosen model.
        answers_M: Its answer to each row scored on: a class, or a value.
        model: The chosen model, with its head.
    """

    score: SeedScore
    answers_M: Values
    model: PreTrainedModel


def fine_tune(
    base: PreTrainedModel,
    data: EvaluationData,
    request: EvaluationRequest,
    seed: int,
    device: torch.device,
    reports: Reports = Reports(),
) -> FineTuned:
    """Do the work of :func:`evaluate_seed`, and return the model and its answers too."""
    begun, done, total = time.monotonic(), 0, steps_in_all(request, data)
    best: _Best | None = None

    def stepped() -> None:
        nonlocal done
        done += 1
        reports.step(done, total)

    reports.step(done, total)
    for number, rate in enumerate(request.learning_rates, start=1):
        spec = request.task_spec().model_copy(update={"learning_rate": rate})
        tuning = FineTuning(
            classifier(base, data.task, seed), data.task, spec, seed=seed, device=device, stepped=stepped
        )
        for _ in range(request.epochs):
            epoch = tuning.run_epoch()
            if not math.isfinite(epoch.train_loss):
                break
            metrics = {"set_aside_score": epoch.score, "train_loss": epoch.train_loss, "learning_rate": rate}
            reports.epoch(done, total, metrics)
            if best is None or epoch.score > best.score:
                best = _Best(epoch.score, epoch.epoch, rate, _copy(tuning.model))
        done = number * total // len(request.learning_rates)
    if best is None:
        raise InputError.of(
            "learning_rates", f"Fine-tuning diverged with each of them (seed {seed}).", "Use smaller learning rates."
        )
    tuning.model.load_state_dict(best.state)
    answers_M = tuning.predict(data.scored)
    found = scores(answers_M, data.scored.labels_N.astype(np.float64), len(data.classes))
    score = SeedScore(
        seed=seed,
        score=found[main_score(request, data.classes)],
        epoch=best.epoch,
        learning_rate=best.rate,
        validation_score=best.score,
        scores=found,
        device=device.type,
        seconds=round(time.monotonic() - begun, 3),
    )
    return FineTuned(score, answers_M, tuning.model)


@dataclass(frozen=True)
class _Best:
    """The best epoch so far; the first of equal ones."""

    score: float
    epoch: int
    rate: float
    state: dict[str, Tensor]


def _copy(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _only(rows: LabelledRows, places: Sequence[int]) -> LabelledRows:
    texts = tuple(tuple(column[place] for place in places) for column in rows.texts)
    return replace(rows, texts=texts, labels=rows.labels[list(places)])


def _digest(texts: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
