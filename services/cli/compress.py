"""``stillroom compress``: one compression without a server, by the same store, controller and embedded Ray."""

from __future__ import annotations

import time

import typer

from services.cli.failures import INTERRUPTED, told_plainly
from services.cli.options import Json, RequestFile, Storage, read_request

CANCEL_SECONDS = 15.0


@told_plainly
def compress(file: RequestFile, storage: Storage = None, json: Json = False) -> None:
    """Compress without a server. Ctrl-C cancels; what was finished is kept and reused by the next run."""
    from services.cli.progress import POLL_SECONDS, report, show_until_end
    from services.cli.signals import ending_in_order, stopping_on_signals
    from services.jobs.documents import JobDocument
    from services.logs import configure_logs
    from services.service import Service
    from services.settings import load_settings

    configure_logs(verbose=False)
    request = read_request(file)
    job_id: str | None = None
    with stopping_on_signals():
        # Nobody else is there whom a key could keep out.
        service = Service(load_settings(storage=storage, host="127.0.0.1", insecure_local=True))

        def read() -> JobDocument:
            assert job_id is not None
            return service.document(service.store.get(job_id))

        try:
            job_id = service.submit(request).id
            service.start(only=job_id)
            job = show_until_end(read)
        except KeyboardInterrupt:
            with ending_in_order():
                if job_id is not None and not read().status.is_terminal:
                    typer.echo(f"Cancelling {job_id} …", err=True)
                    service.cancel(job_id)
                    deadline = time.monotonic() + CANCEL_SECONDS
                    while not read().status.is_terminal and time.monotonic() < deadline:
                        time.sleep(POLL_SECONDS)
            raise typer.Exit(INTERRUPTED) from None
        finally:
            with ending_in_order():
                service.close()
    raise typer.Exit(report(job, json=json))
