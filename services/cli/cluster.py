"""``stillroom cluster``: the nodes of the Ray cluster, with their resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from services.cli.failures import reports_failures
from services.cli.numbers import Cell
from services.cli.options import DEFAULT_SERVER, Json, Server

if TYPE_CHECKING:
    from services.api.schemas import ResourceAmount


@reports_failures
def cluster(server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Print the nodes of the Ray cluster with their CPUs, GPUs and memory, free and total."""
    from services.cli.tables import print_table
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.cluster()
    if json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(f"Ray is {found.ray.state}: {found.ray.note}", err=True)
    rows = [
        (one.id[:12], "head" if one.head else "worker", *_cells(one.cpus), *_cells(one.gpus), *_cells(one.memory_bytes))
        for one in found.nodes
    ]
    columns = ("node", "role", "CPUs free", "CPUs", "GPUs free", "GPUs", "bytes free", "bytes")
    print_table("Nodes", columns, rows)


def _cells(amount: ResourceAmount) -> tuple[Cell, Cell]:
    return "?" if amount.free is None else _whole(amount.free), _whole(amount.total)


def _whole(number: float) -> Cell:
    """Write whole numbers as integers, with all digits: bytes go beyond what a float is shown with."""
    return int(number) if number.is_integer() else number
