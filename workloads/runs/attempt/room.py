"""A step's share of the cluster, and the error for the request's field if the live nodes cannot hold it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cluster.sizing import Cluster, Needs, NoRoomError, Share, describe_needs, read_cluster, share_out
from workloads.spec.errors import InputError


def share_for(field: str, *, runs: int = 1, workers: int = 1, cluster: Cluster | None = None) -> Share:
    """Compute the resources of each worker of a step; see :func:`cluster.sizing.share_out`.

    Args:
        field: The request's field that asks for the workers.
        runs: Number of runs that could go side by side.
        workers: Workers of each run.
        cluster: The nodes; by default the live ones.

    Raises:
        InputError: The live nodes cannot hold the workers of one run.
    """
    with refusing(field):
        return share_out(cluster or read_cluster(), runs=runs, workers=workers)


@contextlib.contextmanager
def refusing(field: str) -> Iterator[None]:
    """Convert a :class:`NoRoomError` into an :class:`InputError` of ``field``."""
    try:
        yield
    except NoRoomError as error:
        raise InputError.of(field, error.problem, error.remedy) from error


def most_at_once(field: str, needs: Needs, cluster: Cluster | None = None) -> int:
    """Count the tasks of these needs that fit on the nodes side by side; by default on the live ones.

    Raises:
        InputError: None fits.
    """
    cluster = cluster or read_cluster()
    found = cluster.holds(needs)
    if not found:
        short = next((name for name in needs if not cluster.holds({name: needs[name]})), "CPU")
        raise InputError.of(
            field,
            f"No node that is up has {describe_needs(needs)}.",
            f"Add a node with enough {short}.",
        )
    return found
