"""``stillroom serve``: the HTTP API, the controller and, by default, an embedded Ray."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.options import Storage

if TYPE_CHECKING:
    import uvicorn


@reports_failures
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; default: 8000.")] = None,
    storage: Storage = None,
    ray_address: Annotated[
        str | None, typer.Option(help="URL of an existing Ray dashboard; default: an embedded Ray.")
    ] = None,
    insecure_local: Annotated[
        bool | None,
        typer.Option(
            "--insecure-local",
            help="Require no key; listens for this machine only, and all its users may do everything.",
        ),
    ] = None,
) -> None:
    """Serve the HTTP API to callers with a key (`stillroom keys`). Ctrl-C ends it and all processes that it started."""
    import uvicorn

    from services.api.app import create_app
    from services.cli.signals import ending_in_order, stopping_on_signals
    from services.logs import configure_logs
    from services.service import Service
    from services.settings import load_settings

    configure_logs()
    settings = load_settings(
        host=host, port=port, storage=storage, ray_address=ray_address, insecure_local=insecure_local
    )
    with stopping_on_signals():
        listener = _listen(settings.host, settings.port)
        service = Service(settings)
        try:
            address = listener.getsockname()
            shown = f"[{address[0]}]" if ":" in address[0] else address[0]
            config = uvicorn.Config(
                create_app(service), log_level="warning", access_log=False, timeout_graceful_shutdown=3
            )
            service.start()
            typer.echo(
                f"stillroom serves http://{shown}:{address[1]} with {service.storage.url}; Ctrl-C ends.", err=True
            )
            if not settings.insecure_local and not service.keys.all():
                typer.echo(
                    "There are no keys yet. Create the first one, with the same settings: "
                    f"stillroom keys create --storage {shlex.quote(settings.storage)} (or serve with --insecure-local)",
                    err=True,
                )
            _run(uvicorn.Server(config), listener)
        except KeyboardInterrupt:  # uvicorn re-raises the signal that ended it
            pass
        finally:
            with ending_in_order():
                service.close()
                listener.close()
        _leave_threads()


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal. Unlike uvicorn's ``run``, do not wait for request threads then."""
    import asyncio

    loop = (server.config.get_loop_factory() or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(server.serve(sockets=[listener]))
    finally:
        loop.set_exception_handler(lambda *_: None)  # requests that were interrupted


def _leave_threads() -> None:
    """End the process while threads still work. Python would wait for them, and a request may take minutes."""
    here = threading.current_thread()
    if any(one.is_alive() and not one.daemon for one in threading.enumerate() if one is not here):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    """Bind the port before anything is started, so that a used port is reported at once."""
    from workloads.spec.errors import InputError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError.of(
            "port",
            f"{host}:{port} cannot be listened on: {error}.",
            "Stop the program that uses it, or give another --port.",
        ) from error
