"""``stillroom compress``: one compression without a server, with the same store, controller and embedded Ray."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from services.cli.failures import FAILED, INTERRUPTED, reports_failures
from services.cli.options import Json, RequestFile, Storage, read_request

if TYPE_CHECKING:
    from services.jobs.documents import JobDocument
    from services.service import Service

CANCEL_SECONDS = 15.0
CANCEL_LOOK_SECONDS = 0.5
POLL_SECONDS = 2.0
"""Poll interval of the controller in seconds, unless the settings give one: a single job needs no short one."""


@reports_failures
def compress(file: RequestFile, storage: Storage = None, json: Json = False) -> None:
    """Compress without a server. Ctrl-C cancels; the next run reuses the finished steps."""
    from services.cli.reports import exit_code, print_document, tell_error
    from services.cli.signals import ending_in_order, stopping_on_signals
    from services.logs import configure_logs
    from services.service import Service
    from services.settings import load_settings

    configure_logs(verbose=False)
    request = read_request(file)
    job_id: str | None = None
    with stopping_on_signals():
        # No API is served, so no keys are needed.
        settings = load_settings(storage=storage, host="127.0.0.1", insecure_local=True)
        if "poll_seconds" not in settings.model_fields_set:
            settings = settings.model_copy(update={"poll_seconds": POLL_SECONDS})
        service = Service(settings)
        try:
            job_id = service.submit(request).id
            service.start(only=job_id)
            job = _show_until_end(service, job_id)
            if job is None:
                note = service.cluster.readiness().note
                _cancel(service, job_id)
                typer.echo(f"error: {note}", err=True)
                raise typer.Exit(FAILED)
        except KeyboardInterrupt:
            with ending_in_order():
                if job_id is not None:
                    _cancel(service, job_id)
            raise typer.Exit(INTERRUPTED) from None
        finally:
            with ending_in_order():
                service.close()
    if json:
        typer.echo(job.model_dump_json(indent=1))
        tell_error(job.error)
    else:
        print_document(job)
    raise typer.Exit(exit_code(job))


def _show_until_end(service: Service, job_id: str) -> JobDocument | None:
    """Show the job until it has ended; return None if the embedded Ray has failed for good."""
    from services.cli.progress_view import ProgressView
    from services.cli.waiting import Looks

    looks = Looks()
    with ProgressView() as view:
        while True:
            job = service.document(service.store.get(job_id))
            view.show(job)
            if job.status.is_terminal:
                return job
            if service.cluster.readiness().given_up:
                return None
            time.sleep(looks.pause)


def _cancel(service: Service, job_id: str) -> None:
    def ended() -> bool:
        return service.store.get(job_id).status.is_terminal

    if not ended():
        typer.echo(f"Cancelling {job_id} …", err=True)
        service.cancel(job_id)
        deadline = time.monotonic() + CANCEL_SECONDS
        while not ended() and time.monotonic() < deadline:
            time.sleep(CANCEL_LOOK_SECONDS)
