"""Options that several verbs share, and how they read a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Server = Annotated[str, typer.Option(help="URL of the server.", envvar="STILLROOM_SERVER")]
DEFAULT_SERVER = "http://127.0.0.1:8000"

Storage = Annotated[
    str | None, typer.Option(help="A folder, s3://… or gs://…; default: stillroom-data.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the compression, cmp_….")]
RequestFile = Annotated[Path, typer.Argument(metavar="FILE", help="The request, JSON or YAML; - for standard input.")]


def read_request(file: Path) -> dict[str, Any]:
    """Read and check a request.

    Raises:
        InputError: It cannot be read, or a field is wrong.
    """
    from workloads.errors import InputError
    from workloads.request import parse_request_text

    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of("FILE", f"{file} cannot be read: {error}.", "Give a request as JSON or YAML.") from error
    # Defaults are left to the server, which may be newer.
    return parse_request_text(text).model_dump(mode="json", exclude_unset=True)
