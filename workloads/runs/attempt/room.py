"""A step's share of the cluster: refused by a field of the request where no nodes that are up can hold it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cluster.room import OnWait, reserved
from cluster.sizing import Cluster, Needs, NoRoomError, Share, describe_needs, read_cluster, share_out
from workloads.spec.errors import InputError


def share_for(field: str, *, runs: int = 1, workers: int = 1, cluster: Cluster | None = None) -> Share:
    """Give what each worker of a step may ask for; see :func:`cluster.sizing.share_out`.

    Args:
        field: The request's field that asks for the workers.
        runs: That could go on side by side.
        workers: Of each run.
        cluster: The nodes; those that are up now unless given.

    Raises:
        InputError: The nodes that are up cannot hold the workers of one run.
    """
    with refusing(field):
        return share_out(cluster or read_cluster(), runs=runs, workers=workers)


@contextlib.contextmanager
def refusing(field: str) -> Iterator[None]:
    """Turn :class:`NoRoomError` into an :class:`InputError` of ``field``."""
    try:
        yield
    except NoRoomError as error:
        raise InputError.of(field, error.problem, error.remedy) from error


def most_at_once(field: str, needs: Needs, cluster: Cluster | None = None) -> int:
    """Give how many tasks of these needs the nodes hold side by side: those that are up now unless given.

    Raises:
        InputError: They hold none.
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


def wait_for_room(needs: Needs, on_wait: OnWait) -> None:
    """Wait until a task of these needs could start.

    Raises:
        NotStartedError: The nodes that could hold it have left.
    """
    with reserved([needs], on_wait):
        pass
