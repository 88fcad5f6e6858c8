"""Options that several verbs share, and how they read a request."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.completion import complete_compression

Server = Annotated[str, typer.Option(help="URL of the server.", envvar="STILLROOM_SERVER")]
DEFAULT_SERVER = "http://127.0.0.1:8000"

Storage = Annotated[
    str | None, typer.Option(help="A folder, s3://… or gs://…; default: stillroom-data.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
JobId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the compression, cmp_….", autocompletion=complete_compression)
]
ThingId = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id: cmp_…, sel_…, pln_…, evl_… or bat_….", autocompletion=complete_compression),
]
RequestFile = Annotated[Path, typer.Argument(metavar="FILE", help="The request, JSON or YAML; - for standard input.")]
After = Annotated[str | None, typer.Option(help="The `next` of an earlier page.")]
All = Annotated[bool, typer.Option("--all", help="All pages.")]
SequenceLength = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4096,
        help="Tokens that FLOPs are counted at.",
        show_default="128, or the teacher's longest input if shorter",
    ),
]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="NAME:VALUE", help="Repeatable; all must hold.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="An Idempotency-Key of your own: the same sent twice makes one.", min=1),
]
DEFAULT_PATIENCE = 600.0
Patience = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to wait for a server that does not answer; "
        f"default: {DEFAULT_PATIENCE:.0f} once it has answered.",
    ),
]
MaxBytes = Annotated[
    int | None,
    typer.Option(min=1, metavar="BYTES", help="Size of the longest download that is taken.", show_default="64 GiB"),
]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_request(file: Path) -> dict[str, Any]:
    """Read and check a request.

    Raises:
        InputError: The file cannot be read, or a field is wrong.
    """
    from workloads.spec.request import parse_request_text

    # The server fills in defaults; it may be newer.
    return parse_request_text(_read(file)).model_dump(mode="json", exclude_unset=True)


def read_document(file: Path) -> Any:
    """Read a JSON or YAML document, which the server checks.

    Raises:
        InputError: It cannot be read.
    """
    from workloads.spec.errors import InputError
    from workloads.spec.reading import UnreadableTextError, load_text

    try:
        return load_text(_read(file))
    except UnreadableTextError as error:
        raise InputError.of("FILE", f"{file} cannot be read: {error}.", "Write it as JSON or YAML.") from None


def read_labels(given: list[str] | None) -> dict[str, str]:
    """Read labels.

    Raises:
        InputError: One is not NAME:VALUE.
    """
    from workloads.spec.errors import InputError

    pairs = [one.partition(":") for one in given or []]
    for name, colon, _ in pairs:
        if not name or not colon:
            raise InputError.of("--label", f"{name!r} is not a label.", "Give it as NAME:VALUE, such as team:search.")
    return {name: value for name, _, value in pairs}


def read_duration(option: str, text: str) -> timedelta:
    """Read a time such as 12h.

    Raises:
        InputError: The text is not a duration.
    """
    from workloads.spec.errors import InputError

    match = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", text)
    if match is None:
        raise InputError.of(option, f"{text!r} is not a duration.", "Give minutes, hours, days or weeks, such as 90d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _read(file: Path) -> str:
    from workloads.spec.errors import InputError

    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of("FILE", f"{file} cannot be read: {error}.", "Give it as JSON or YAML.") from error
