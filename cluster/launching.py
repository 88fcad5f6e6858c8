"""Launching of work on workers: it waits for free resources, and starts when it has them.

A reservation waits for the room first; the wait is not limited and is no failure. If the work has room and its worker
does not start within :data:`cluster.room.START_SECONDS`, the launch fails with the reason.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cluster.room import START_SECONDS, not_started
from cluster.sizing import Needs

FOLLOWS = "follows the others: the nodes that are up hold no more at once"

_GLANCE_SECONDS = 0.05
"""Seconds that a check waits for the room; Ray needs a moment even if all is free."""


class NoRoomYetError(RuntimeError):
    """The room was lost: other work took it before the workers started, or a node left as planned."""


class LostError(RuntimeError):
    """A worker was lost or failed in a way that a restart may mend.

    Attributes:
        failure: Raised if there are no restarts left.
    """

    def __init__(self, failure: BaseException) -> None:
        super().__init__(failure)
        self.failure = failure


class Work(Protocol):
    """Work to launch.

    Attributes:
        names: Names for reports of its waiting.
        needs: Needs of each worker.
        retries: Most restarts after a :class:`LostError`.
    """

    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def needs(self) -> Needs: ...  # noqa: D102

    @property
    def retries(self) -> int: ...  # noqa: D102


class Room(Protocol):
    """A reservation; see :class:`cluster.room.Reservation`.

    Attributes:
        group: Ray's placement group.
    """

    group: Any

    def granted(self, seconds: float) -> bool:
        """Whether the room is granted."""

    @property
    def wait(self) -> str | None:
        """Description of what the reservation waits for."""

    def release(self) -> None:
        """Release the room."""


class Handle(Protocol):
    """Handle of started work."""

    def ended(self) -> tuple[bool, BaseException | None]:
        """Whether the work has ended, and the failure if there was one."""

    def cancel(self) -> None:
        """End the work at once."""


class Launcher(Protocol):
    """Launcher of a kind of work on the cluster."""

    def reserve(self, work: Any) -> Room:
        """Request the room of the work's workers."""

    def start(self, work: Any, room: Room) -> Handle:
        """Start the work; the launcher releases the room, at the latest when the work has ended."""


OnWait = Callable[[Sequence[str], str | None], None]
"""Callback with the names of work and what it waits for; None at the end of the wait."""


class Launch:
    """Launch of one work, from waiting to its end.

    Args:
        work: The work.
        launcher: Starts the work.
        on_wait: Called while it waits.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self, work: Work, launcher: Launcher, on_wait: OnWait, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.work = work
        self._launcher, self._on_wait, self._clock = launcher, on_wait, clock
        self._room: Room | None = launcher.reserve(work)
        self._handle: Handle | None = None
        self._began, self._tried, self._lost = 0.0, 0.0, 0  # the last start; seconds of fruitless ones; workers lost
        self._told: str | None = None
        self._works = False

    def works(self) -> None:
        """Note that the worker has started."""
        self._works, self._tried = True, 0.0

    def go_on(self) -> bool:
        """Go on as far as possible now; True once it has come to its end.

        Raises:
            NotStartedError: It has room and does not start.
            BaseException: The failure that ended it.
        """
        if self._room is not None:
            self._await(self._room)
        elif self._handle is not None:
            ended, failure = self._handle.ended()
            if ended and not self._may_try_again(failure):
                self._handle = None
                if failure is not None:
                    raise failure.failure if isinstance(failure, LostError) else failure
                return True
            if ended:
                self._tried = self._fruitless
                self._handle, self._room = None, self._launcher.reserve(self.work)
        if self._fruitless > START_SECONDS:
            raise not_started(self.work.needs)
        return False

    def close(self) -> None:
        """Release the room and end the work, if it runs."""
        if self._room is not None:
            self._room.release()
        if self._handle is not None:
            self._handle.cancel()

    @property
    def _fruitless(self) -> float:
        """Seconds with room but without a started worker."""
        starts = self._handle is not None and not self._works
        return self._tried + (self._clock() - self._began if starts else 0.0)

    def _may_try_again(self, failure: BaseException | None) -> bool:
        if isinstance(failure, LostError):
            self._lost += 1
            return self._lost <= self.work.retries
        return isinstance(failure, NoRoomYetError)

    def _await(self, room: Room) -> None:
        if not room.granted(_GLANCE_SECONDS):
            self._tell(room.wait)
            if self._told is not None:
                self._tried = 0.0  # others have taken the room
            return
        self._tell(None)
        self._room = None
        self._works = False  # also drops late news of the worker before
        self._began, self._handle = self._clock(), self._launcher.start(self.work, room)

    def _tell(self, why: str | None) -> None:
        if why != self._told:
            self._told = why
            self._on_wait(self.work.names, why)


class Launches:
    """Launches of several works, a limited number at once.

    Args:
        works: The works.
        at_once: Number of works that the nodes hold side by side.
        launcher: Starts the works.
        on_wait: Called while they wait.
    """

    def __init__(self, works: Sequence[Work], at_once: int, launcher: Launcher, on_wait: OnWait) -> None:
        assert at_once >= 1, at_once
        self._later, self._at_once = deque(works), at_once
        self._launcher, self._on_wait = launcher, on_wait
        self._active: list[Launch] = []
        for work in works[at_once:]:
            on_wait(work.names, FOLLOWS)

    def go_on(self) -> bool:
        """Go on as far as possible now; True once all have come to their ends.

        Raises:
            NotStartedError: One has room and does not start.
            BaseException: The first failure of one.
        """
        while self._later and len(self._active) < self._at_once:
            work = self._later.popleft()
            self._on_wait(work.names, None)
            self._active.append(Launch(work, self._launcher, self._on_wait))
        for launch in list(self._active):
            if launch.go_on():
                self._active.remove(launch)
        return not self._active and not self._later

    def works(self, names: Sequence[str]) -> None:
        """Note that the worker of the work with any of these names has started."""
        for launch in self._active:
            if set(launch.work.names) & set(names):
                launch.works()

    def close(self) -> None:
        """Release the room and end the work, if it runs."""
        for launch in self._active:
            launch.close()
