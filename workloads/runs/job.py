"""One attempt of a job: ``python -m workloads.runs.job --storage URL --job ID --attempt N``.

It reads the job's order and request, runs the method (or fine-tunes and scores, for an evaluation), and writes
``result.json``: the result or the error. Only a kill leaves none.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from cluster.connect import configure_driver_logs, connect
from workloads.answers.trained import load_trained
from workloads.documents.job_folder import JobFolder, OrderDocument, ResultDocument
from workloads.methods.answering import answer
from workloads.runs.attempt.failures import error_document
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import JobAttempt
from workloads.runs.attempt.stage_log import StageLog
from workloads.runs.describing import describe
from workloads.spec.errors import InputError
from workloads.spec.evaluation import AcceptedEvaluation, parse_accepted
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.masking import mask_event
from workloads.storage.places import Places, confine
from workloads.storage.storage import Storage

GRACE_SECONDS = 1.5
"""Seconds from a SIGTERM to the end of the process, whatever still runs."""
_TERMINATED = 128 + signal.SIGTERM

_ending = threading.Event()
_work: list[Path] = []
"""Local folders to remove at the end, also at a forced one."""
_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one attempt and give its exit code: 0 where the result is a success."""
    parser = argparse.ArgumentParser(prog="python -m workloads.runs.job")
    parser.add_argument("--storage", required=True, help="folder, s3:// or gs:// URL")
    parser.add_argument("--job", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    given = parser.parse_args(arguments)
    configure_driver_logs(mask_event)
    structlog.contextvars.bind_contextvars(job=given.job, attempt=given.attempt)
    storage = Storage.open(given.storage)
    folder = JobFolder(storage, given.job)
    result = _attempt(folder, given.attempt)
    try:
        folder.write_result(given.attempt, result)
    except OSError as error:
        # The service shows the last line of the output of a run that left no result.
        message = result.error.message if result.error else "The students are saved."
        sys.stderr.write(f"The result cannot be written to {storage.url} ({error}). {message}\n")
        return 1
    return 0 if result.status == "succeeded" else 1


def _attempt(folder: JobFolder, number: int) -> ResultDocument:
    started = time.monotonic()
    log = StageLog(folder.storage, folder.job)
    with Progress(folder, number) as progress:
        try:
            folder.storage.check_writable()
            work = _work_of(JobAttempt(folder, number, progress, log))
            connect()
            signal.signal(signal.SIGTERM, _end_quickly)  # replaces Ray's handler, which is slower
            result = work()
        except BaseException as error:
            # We are shutting down: errors are a consequence, not a result. Ray's wait would also change the exit code.
            if _ending.is_set():
                raise SystemExit(_TERMINATED) from error
            if not isinstance(error, Exception):
                raise
            document = error_document(error)
            if not isinstance(error, InputError):
                _log.exception("run_failed", code=document.code)
            progress.fail(document.message)
            result = ResultDocument(status="failed", error=document)
    seconds = round(time.monotonic() - started, 3)
    return result.model_copy(update={"seconds": seconds, "stored_bytes": log.bytes_built()})


def _work_of(attempt: JobAttempt) -> Callable[[], ResultDocument]:
    """Return the function that does the job; its order and request are read and checked here."""
    order, data = attempt.folder.read_order(), attempt.folder.read_request()
    confine(Places(order.roots, order.hub))
    if order.kind == "evaluation":
        return functools.partial(_evaluate, parse_accepted(data), attempt)
    return functools.partial(_compress, order, parse_request(data), attempt)


def _evaluate(request: AcceptedEvaluation, attempt: JobAttempt) -> ResultDocument:
    from workloads.runs.evaluation import evaluate, step_names  # torch and Ray, as below

    attempt.progress.declare(step_names(request))
    attempt.progress.event("started", f"Attempt {attempt.number} of an evaluation on {request.task.name}.")
    with _work_folder() as work:
        found, used = evaluate(attempt, request, work)
    attempt.progress.event("succeeded", f"{found.metric} {found.mean:.4f}, {len(found.seeds)} seeds.")
    return ResultDocument(status="succeeded", evaluation=found, artifacts=used)


def _compress(order: OrderDocument, request: CompressionRequest, attempt: JobAttempt) -> ResultDocument:
    # These import torch and Ray; connect() must set Ray's environment variables first.
    from workloads.methods.steps import step_names
    from workloads.runs.attempt.attempt import Attempt
    from workloads.runs.roads import road_of
    from workloads.runs.stages.answering import StoredAnswering

    progress, road = attempt.progress, road_of(request.method)
    progress.declare(step_names(request, order.kind))
    progress.event("started", f"Attempt {attempt.number} of a {order.kind}, method {request.method}.")
    with _work_folder() as work:
        this = Attempt(attempt, request, work)
        if order.kind == "plan":
            return ResultDocument(status="succeeded", plan=road.plan(this), artifacts=attempt.log.fingerprints())
        if order.kind == "selection":
            assert order.scores is not None, order
            trained = load_trained(this.storage, order.scores)
        else:
            trained = road.to_scores(this)
        this.settle(trained.teacher.shape)
        found = answer(this.request, StoredAnswering(this), trained)
        result = describe(this.storage, attempt.folder, attempt.number, this.request, found)
    progress.event("succeeded", f"{len(result.students)} of {len(request.budgets)} budgets are met.")
    students = {student.artifact.fingerprint for student in found.students}  # without those that it rejected
    return result.model_copy(update={"artifacts": attempt.log.fingerprints(students)})


def _end_quickly(number: int, frame: FrameType | None) -> NoReturn:
    """Exit and release leases; exit at once after the grace period, since a trainer may not return."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the release
    _ending.set()
    deadline = threading.Timer(GRACE_SECONDS, _give_up)
    deadline.daemon = True
    deadline.start()
    raise SystemExit(_TERMINATED)


def _give_up() -> None:
    for folder in _work:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(_TERMINATED)


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """Make a local folder for copies, removed at the run's end."""
    with tempfile.TemporaryDirectory(prefix="stillroom-run-", ignore_cleanup_errors=True) as name:
        _work.append(Path(name))
        try:
            yield Path(name)
        finally:
            _work.remove(Path(name))


if __name__ == "__main__":
    sys.exit(main())
