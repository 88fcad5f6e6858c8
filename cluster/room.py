"""Room on the cluster: waiting for a worker's resources, with a placement group that Ray grants as a whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.sizing import Cluster, Needs, describe_needs, read_cluster

START_SECONDS = 600.0
"""Longest time for a worker to start once it has room, and for a lost node to come back."""
POLL_SECONDS = 0.5
_QUIET_SECONDS = 2.0  # a shorter wait is not reported
_LOOK_SECONDS = 5.0  # between checks of the live nodes

OnWait = Callable[[str | None], None]
"""Callback with the reason and the start of a wait, and with None at its end."""


class NotStartedError(RuntimeError):
    """A worker did not start although there was room for it, or its node left and did not come back."""


class Reservation:
    """A placement group of ``bundles``: granted when all of them are free at once.

    Args:
        bundles: The needs of each worker.
        node: Ray's id of the node that must hold them; None for any nodes.
    """

    def __init__(self, bundles: Sequence[Needs], node: str | None = None) -> None:
        from ray.util.placement_group import placement_group

        self._bundles, self._node = bundles, node
        selectors = None if node is None else [{"ray.io/node-id": node}] * len(bundles)
        self.group: Any = placement_group(
            [dict(bundle) for bundle in bundles], strategy="PACK", bundle_label_selector=selectors
        )
        self._since, self._began = datetime.now(UTC), time.monotonic()
        self._seen = self._looked = self._began  # when the nodes that are up could hold it; when that was asked

    def granted(self, seconds: float) -> bool:
        """Whether the room is there, waited for up to ``seconds``.

        Raises:
            NotStartedError: The nodes that could hold it have been away for :data:`START_SECONDS`.
        """
        if self.group.wait(seconds):
            return True
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if can_hold(read_cluster(), self._bundles, self._node):
                self._seen = now
            elif now - self._seen > START_SECONDS:
                raise NotStartedError(
                    f"No node that is up can hold {self._words} any more; none came back in "
                    f"{START_SECONDS / 60:.0f} minutes."
                )
        return False

    @property
    def wait(self) -> str | None:
        """Reason and start of the wait; None for the first moments."""
        if time.monotonic() - self._began < _QUIET_SECONDS:
            return None
        return f"waiting since {self._since:%H:%M:%S} UTC for {self._words}, taken by other work"

    def release(self) -> None:
        """Release the resources."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self.group)

    @property
    def _words(self) -> str:
        count, one = len(self._bundles), describe_needs(self._bundles[0])
        return one if count == 1 else f"{count} x ({one})"


@contextlib.contextmanager
def reserved(bundles: Sequence[Needs], on_wait: OnWait, node: str | None = None) -> Iterator[Any]:
    """Wait until ``bundles`` are free and hold them; gives the placement group.

    Args:
        bundles: The needs of each worker, all alike.
        on_wait: Told while they are not free.
        node: See :class:`Reservation`.

    Raises:
        NotStartedError: See :meth:`Reservation.granted`.
    """
    reservation, told = Reservation(bundles, node), False
    try:
        while not reservation.granted(POLL_SECONDS):
            if not told and (words := reservation.wait) is not None:
                told = True
                on_wait(words)
        if told:
            on_wait(None)
        yield reservation.group
    finally:
        reservation.release()


def can_hold(cluster: Cluster, bundles: Sequence[Needs], node: str | None = None) -> bool:
    """Whether the live nodes can hold equal bundles together while nothing else runs."""
    within = Cluster(tuple(one for one in cluster.nodes if node is None or one.id == node))
    return within.holds(bundles[0]) >= len(bundles)


def run_in(group: Any, needs: Needs, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a worker of its own within a reservation, and return its result.

    Raises:
        NotStartedError: The worker did not start in :data:`START_SECONDS`.
        RayTaskError: The function failed.
    """
    import ray

    actor = start_in(group, needs, _Runner)
    try:
        return ray.get(actor.run.remote(function, *args))
    finally:
        ray.kill(actor)


def start_in(group: Any, needs: Needs, cls: type, *args: Any) -> Any:
    """Start an actor within a reservation, and wait until it is up.

    Raises:
        NotStartedError: It did not start in :data:`START_SECONDS`.
        RayActorError: Its ``__init__`` failed.
    """
    import ray

    actor = ray.remote(cls).options(**options_in(group, needs)).remote(*args)
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=START_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        ray.kill(actor)
        raise not_started(needs) from error
    return actor


def options_in(group: Any, needs: Needs) -> dict[str, Any]:
    """Ray's options of a task or an actor that takes the first bundle of a reservation."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return {
        "num_cpus": needs.get("CPU", 0),
        "num_gpus": needs.get("GPU", 0),
        "resources": {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")},
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
    }


def not_started(needs: Needs) -> NotStartedError:
    """The error of a worker that did not start although there was room for it."""
    return NotStartedError(
        f"{describe_needs(needs)} are free, but Ray started no worker with them in {START_SECONDS / 60:.0f} minutes. "
        "Look at Ray's logs on the nodes (raylet.err, worker-*.err)."
    )


class _Runner:
    """Runs one function."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return the function's result."""
        return function(*args)
