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
    from workloads.request import parse_request_text

    # Defaults are left to the server, which may be newer.
    return parse_request_text(_read(file)).model_dump(mode="json", exclude_unset=True)


def read_document(file: Path) -> Any:
    """Read a JSON or YAML document, which the server checks.

    Raises:
        InputError: It cannot be read.
    """
    import yaml

    from workloads.errors import InputError

    try:
        return yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise InputError.of("FILE", f"{file} cannot be read: {error}.", "Write it as JSON or YAML.") from None


def _read(file: Path) -> str:
    from workloads.errors import InputError

    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of("FILE", f"{file} cannot be read: {error}.", "Give it as JSON or YAML.") from error
