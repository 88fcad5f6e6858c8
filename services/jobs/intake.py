"""Accepting a request: everything that can be told at once is told at once, before anything is started."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from workloads.errors import FieldError, InputError
from workloads.request import CompressionRequest, parse_request
from workloads.teacher_files import check_teacher, is_path


def accept_request(data: Any) -> dict[str, Any]:
    """Check a request and give it as it is kept: all fields, local paths absolute.

    Relative paths are those of this process; a run has another working folder.

    Raises:
        InputError: One finding a field, of the form first, then of what it points to on this machine.
    """
    request = _with_absolute_paths(parse_request(data))
    findings: list[FieldError] = []
    try:
        check_teacher(request.teacher)
    except InputError as error:
        findings.extend(error.errors)
    findings.extend(_corpus_findings(request))
    if findings:
        raise InputError(findings)
    return request.model_dump(mode="json")


def _with_absolute_paths(request: CompressionRequest) -> CompressionRequest:
    teacher, corpus = request.teacher, request.corpus
    if is_path(teacher.model):
        teacher = teacher.model_copy(update={"model": _absolute(teacher.model)})
    corpus = corpus.model_copy(update={"paths": [_absolute(path) for path in corpus.paths]})
    if corpus.dataset is not None and is_path(corpus.dataset):
        corpus = corpus.model_copy(update={"dataset": _absolute(corpus.dataset)})
    return request.model_copy(update={"teacher": teacher, "corpus": corpus})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _corpus_findings(request: CompressionRequest) -> list[FieldError]:
    findings = []
    for index, path in enumerate(request.corpus.paths):
        field = f"corpus.paths.{index}"
        if "://" in path:  # buckets are looked into by the run, which has the rights to them
            continue
        if Path(path).exists():
            continue
        if glob.has_magic(path):
            if next(Path("/").glob(path.lstrip("/")), None) is None:
                findings.append(FieldError(field, f"No file matches {path}.", "Give a glob that matches some."))
            continue
        findings.append(
            FieldError(field, f"There is no file or folder {path} on the server.", "Give a path that exists there.")
        )
    dataset = request.corpus.dataset
    if dataset is not None and "://" not in dataset and is_path(dataset) and not Path(dataset).exists():
        findings.append(
            FieldError("corpus.dataset", f"There is no folder {dataset} on the server.", "Give one that exists there.")
        )
    return findings
