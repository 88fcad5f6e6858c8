"""One attempt of a job: ``python -m workloads.runs.job --storage URL --job ID --attempt N``.

Reads the job's order and request, walks the method's road (or, for an evaluation, fine-tunes and scores), and leaves
``result.json``, whatever happens short of a kill.
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
from workloads.answers.trained import recall
from workloads.documents.job_folder import JobFolder, OrderDocument, ResultDocument
from workloads.methods.answering import answer
from workloads.runs.attempt.failures import error_document
from workloads.runs.attempt.progress import Progress
from workloads.runs.describing import describe
from workloads.spec.errors import InputError
from workloads.spec.evaluation import AcceptedEvaluation, parse_accepted
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage import artifacts
from workloads.storage.masking import mask_event
from workloads.storage.places import Places, confine
from workloads.storage.storage import Storage

GRACE_SECONDS = 1.5
"""From a SIGTERM to the end, whatever still runs."""
_TERMINATED = 128 + signal.SIGTERM

_ending = threading.Event()
_work: list[Path] = []
"""Local folders that must not outlive the run."""
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
    result = _attempt(storage, folder, given.job, given.attempt)
    try:
        folder.write_result(given.attempt, result)
    except OSError as error:
        # The last line is what the service shows of a run that left no result.
        message = result.error.message if result.error else "The students are saved."
        sys.stderr.write(f"The result cannot be written to {storage.url} ({error}). {message}\n")
        return 1
    return 0 if result.status == "succeeded" else 1


def _attempt(storage: Storage, folder: JobFolder, job: str, attempt: int) -> ResultDocument:
    started = time.monotonic()
    used: dict[str, list[str]] = {}
    with Progress(folder, attempt) as progress:
        try:
            storage.check_writable()
            work = _work_of(storage, folder, job, attempt, progress, used)
            connect()
            signal.signal(signal.SIGTERM, _end_quickly)  # after Ray, which has a slower way of its own
            result = work()
        except BaseException as error:
            # What breaks because we leave is no finding about the job; and Ray's waits turn our exit's code into 1.
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
    return result.model_copy(update={"seconds": seconds, "stored_bytes": _bytes_built(storage, used, job)})


def _bytes_built(storage: Storage, used: dict[str, list[str]], job: str) -> int | None:
    try:
        return artifacts.bytes_built(storage, used, job)
    except OSError as error:  # the result is worth more than the account of it
        _log.warning("stored_bytes_not_counted", error=str(error))
        return None


def _work_of(
    storage: Storage, folder: JobFolder, job: str, attempt: int, progress: Progress, used: dict[str, list[str]]
) -> Callable[[], ResultDocument]:
    """What the job asks for, its request checked and nothing done yet."""
    order, data = folder.read_order(), folder.read_request()
    confine(Places(order.roots, order.hub))
    if order.kind == "evaluation":
        return functools.partial(_evaluate, storage, parse_accepted(data), job, attempt, progress, used)
    return functools.partial(_compress, storage, folder, order, parse_request(data), job, attempt, progress, used)


def _evaluate(
    storage: Storage,
    request: AcceptedEvaluation,
    job: str,
    attempt: int,
    progress: Progress,
    used: dict[str, list[str]],
) -> ResultDocument:
    from workloads.runs.evaluation import evaluate, step_names  # torch and Ray, as below

    progress.declare(step_names(request))
    progress.event("started", f"Attempt {attempt} of an evaluation on {request.task.name}.")
    with _work_folder() as work:
        builder = f"{job}-{attempt}"
        found, made = evaluate(storage, request, builder=builder, progress=progress, work=work)
    used |= made
    progress.event("succeeded", f"{found.metric} {found.mean:.4f}, {len(found.seeds)} seeds.")
    return ResultDocument(status="succeeded", evaluation=found, artifacts=used)


def _compress(
    storage: Storage,
    folder: JobFolder,
    order: OrderDocument,
    request: CompressionRequest,
    job: str,
    attempt: int,
    progress: Progress,
    used: dict[str, list[str]],
) -> ResultDocument:
    # These bring torch and Ray, which connect() has prepared for.
    from workloads.methods.steps import step_names
    from workloads.runs.attempt.attempt import Attempt
    from workloads.runs.roads import road_of
    from workloads.runs.stages.answering import StoredAnswering

    progress.declare(step_names(request, order.kind))
    progress.event("started", f"Attempt {attempt} of a {order.kind}, method {request.method}.")
    with _work_folder() as work:
        this = Attempt(storage, request, job=job, attempt=attempt, progress=progress, work=work, used=used)
        if order.kind == "plan":
            return ResultDocument(status="succeeded", plan=road_of(request.method).plan(this), artifacts=used)
        if order.kind == "selection":
            assert order.scores is not None, order
            trained = recall(storage, order.scores)
        else:
            trained = road_of(request.method).to_scores(this)
        this.set_lengths(trained.teacher.shape.longest)
        found = answer(this.request, StoredAnswering(this), trained)
        result = describe(storage, folder, attempt, this.request, found)
    progress.event("succeeded", f"{len(result.students)} of {len(request.budgets)} budgets are met.")
    return result.model_copy(update={"artifacts": found.held(used)})


def _end_quickly(number: int, frame: FrameType | None) -> NoReturn:
    """Leave in order, giving leases back, but not for longer than the grace: a trainer may hold on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another would only cut the giving back short
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
    """A local folder for copies, gone with the run."""
    with tempfile.TemporaryDirectory(prefix="stillroom-run-", ignore_cleanup_errors=True) as name:
        _work.append(Path(name))
        try:
            yield Path(name)
        finally:
            _work.remove(Path(name))


if __name__ == "__main__":
    sys.exit(main())
