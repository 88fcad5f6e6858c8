"""Plain Ray tasks, launched when there is room for them; their reports come through an actor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from cluster.launching import LostError
from cluster.room import Reservation, options_in


class TaskLauncher:
    """Launcher of works, one Ray task each; see :class:`cluster.launching.Launcher`.

    Args:
        submit: Submits the task of a work with these options, and returns the ref of its result.
        keep: Called with each result.
    """

    def __init__(self, submit: Callable[[Any, dict[str, Any]], Any], keep: Callable[[Any], None]) -> None:
        self._submit, self._keep = submit, keep

    def reserve(self, work: Any) -> Reservation:
        """Request the room of a work's worker."""
        return Reservation([work.needs])

    def start(self, work: Any, room: Any) -> _Task:
        """Start the task of a work in its room."""
        return _Task(self._submit(work, options_in(room.group, work.needs)), room, self._keep)


@dataclass(frozen=True)
class _Task:
    """A running task, and the room that it runs in."""

    reference: Any
    room: Reservation
    keep: Callable[[Any], None]

    def ended(self) -> tuple[bool, BaseException | None]:
        if not ray.wait([self.reference], timeout=0)[0]:
            return False, None
        self.room.release()
        try:
            self.keep(ray.get(self.reference))
        except ray.exceptions.RayTaskError as error:  # raised by the task
            return True, error
        except ray.exceptions.RayError as error:  # a loss of its worker or node
            return True, LostError(error)
        return True, None

    def cancel(self) -> None:
        ray.cancel(self.reference, force=True)
        self.room.release()


class Reports:
    """Actor that collects the workers' reports. Workers do not wait for it: a waiting task gives up its CPUs."""

    def __init__(self) -> None:
        self._reports: list[Any] = []

    def add(self, report: Any) -> None:
        """Add a report."""
        self._reports.append(report)

    def take(self) -> list[Any]:
        """Remove and return all reports, oldest first."""
        taken, self._reports = self._reports, []
        return taken
