"""Acceptance of compressions: all checks that need no run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.intake.files import absolute, missing_files, outside_files
from workloads.answers.latency import known_targets
from workloads.methods.fitting import fitting_spaces, settled
from workloads.methods.method import training_tokens
from workloads.shapes.heads import sized_head
from workloads.shapes.teacher_files import check_teacher, is_path
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import ENDINGS, OTHER_ENDING, CompressionRequest
from workloads.storage.globs import is_wild, parse_glob
from workloads.storage.places import EVERYWHERE, Places
from workloads.storage.walking import Bounds, files_of_glob, kind_of

TASK_SIDES = ("train", "validation")
_LOOKED_AT = Bounds(entries=20_000, seconds=0.5)
"""Limits of the expansion of a glob while a request waits for its answer."""


@dataclass(frozen=True, slots=True)
class AcceptedCompression:
    """An accepted compression.

    Attributes:
        request: The request with absolute local paths and full latency targets; with lengths if the teacher is local.
        tokens: Number of tokens to train on.
    """

    request: CompressionRequest
    tokens: int


def accept_compression(
    asked: CompressionRequest, targets: Sequence[LatencyTarget] = (), places: Places = EVERYWHERE
) -> AcceptedCompression:
    """Check the files that a request names on this machine.

    Relative paths become absolute, since a run has another working folder than this process.

    Args:
        asked: A well-formed request.
        targets: The service's latency targets, beside the built-in ones.
        places: Places that requests may read.

    Raises:
        InputError: Something is missing or not allowed; one finding per field.
    """
    request, findings = with_targets(_with_absolute_paths(asked), targets)
    try:
        shape = check_teacher(request.teacher, places, request.teacher.kind)
        if shape is not None:
            shape = shape.with_head(sized_head(shape.head, request.teacher.embedding_size))
            fitting_spaces(request, shape)
            request = settled(request, shape)
    except InputError as error:
        findings.extend(error.errors)
    outside = _outside(request, places)
    # For paths outside the allowed roots report only that; never reveal whether they exist.
    refused = {finding.field for finding in outside}
    there = _corpus_findings(request, places)
    if request.proxy_task is not None:
        there.extend(missing_files(request.proxy_task, "proxy_task", TASK_SIDES))
    findings.extend([*outside, *(finding for finding in there if finding.field not in refused)])
    if findings:
        raise InputError(findings)
    return AcceptedCompression(request, training_tokens(request))


def with_targets(
    request: CompressionRequest, targets: Sequence[LatencyTarget]
) -> tuple[CompressionRequest, list[FieldError]]:
    """Add the definitions of all latency targets that the budgets name, so that a run needs no settings."""
    known = known_targets(targets) | {target.name: target for target in request.latency_targets}
    named = {budget.latency_target for budget in request.budgets if budget.latency_target is not None}
    findings = [
        FieldError(
            f"budgets.{index}.latency_target",
            f"There is no latency target {budget.latency_target!r}.",
            f"Use one of {', '.join(sorted(known))}, or define it in 'latency_targets'.",
        )
        for index, budget in enumerate(request.budgets)
        if budget.latency_target is not None and budget.latency_target not in known
    ]
    used = [known[name] for name in sorted(named & known.keys())]
    own = [target for target in request.latency_targets if target.name not in named]
    return request.model_copy(update={"latency_targets": [*used, *own]}), findings


def _with_absolute_paths(request: CompressionRequest) -> CompressionRequest:
    teacher, corpus = request.teacher, request.corpus
    if is_path(teacher.model):
        teacher = teacher.model_copy(update={"model": absolute(teacher.model)})
    corpus = corpus.model_copy(update={"paths": [absolute(path) for path in corpus.paths]})
    task = request.proxy_task
    if task is not None:
        files = {field: [absolute(path) for path in getattr(task, field)] for field in ("train", "validation")}
        task = task.model_copy(update=files)
    if corpus.dataset is not None and is_path(corpus.dataset):
        corpus = corpus.model_copy(update={"dataset": absolute(corpus.dataset)})
    return request.model_copy(update={"teacher": teacher, "corpus": corpus, "proxy_task": task})


def teacher_names(model: str) -> tuple[str, str]:
    """Names that stored requests may have for a teacher: the given one, or the absolute path of a folder.

    The folder need not exist.
    """
    return model, absolute(model)


def _corpus_findings(request: CompressionRequest, places: Places) -> list[FieldError]:
    """Findings of missing corpus paths; the run checks buckets, since it has access to them."""
    found = [
        _path_finding(path, f"corpus.paths.{index}", places)
        for index, path in enumerate(request.corpus.paths)
        if "://" not in path and places.finding(path, "") is None
    ]
    dataset = request.corpus.dataset
    if dataset is not None and "://" not in dataset and is_path(dataset) and kind_of(dataset) != "folder":
        found.append(
            FieldError("corpus.dataset", f"There is no folder {dataset} on the server.", "Give one that exists there.")
        )
    return [finding for finding in found if finding is not None]


def _path_finding(path: str, field: str, places: Places) -> FieldError | None:
    if kind_of(path) == "folder":
        return None
    there, ending = os.path.lexists(path), Path(path).suffix.lower()
    if ending not in ENDINGS and (there or (is_wild(path) and ending and not is_wild(ending))):
        return FieldError(field, f"{path} has none of the endings {', '.join(ENDINGS)}.", OTHER_ENDING)
    if there:
        return None
    if not is_wild(path):
        return FieldError(field, f"There is no file or folder {path} on the server.", "Give a path that exists there.")
    try:
        listing = files_of_glob(parse_glob(path, field), places, _LOOKED_AT)
    except InputError as error:
        return error.errors[0]
    except OSError as error:
        return FieldError(
            field, f"{path} cannot be listed: {error}.", "Correct the path, or give the right to read it."
        )
    if listing.whole and not listing.files:
        return FieldError(field, f"No file matches {path}.", "Give a glob that matches files.")
    return None  # beyond the limits, the run checks


def _outside(request: CompressionRequest, places: Places) -> list[FieldError]:
    """Findings of corpus and proxy-task paths outside of the places that requests may read."""
    corpus, dataset = request.corpus, request.corpus.dataset
    found = [places.finding(path, f"corpus.paths.{index}") for index, path in enumerate(corpus.paths)]
    if dataset is not None:
        find = places.finding if is_path(dataset) else places.hub_finding
        found.append(find(dataset, "corpus.dataset"))
    tasks = [] if request.proxy_task is None else outside_files(request.proxy_task, "proxy_task", TASK_SIDES, places)
    return [*(finding for finding in found if finding is not None), *tasks]
