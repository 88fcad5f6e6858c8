"""Groups of one worker: an actor in the group's room runs Ray Train's local mode.

A Ray Train run with processes of its own has a controller, which starts three more actors beside the worker. Their
start took 15 s and as many CPU-seconds, and serves workers that train together. One worker needs none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from cluster.launching import LostError, NoRoomYetError, Room
from cluster.room import Reservation, options_in
from workloads.runs.training.train_group import GroupJob, Message, run_alone


class TrainingWorker:
    """Actor that trains a group, and keeps its messages until they are read; it runs the two methods side by side."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._lock = threading.Lock()

    def run(self, job: GroupJob) -> BaseException | None:
        """Train the group, and return the failure that ended it, None if there was none."""
        return run_alone(job, self)

    def read(self) -> list[Message]:
        """Return the messages since the last call."""
        with self._lock:
            found, self._messages = self._messages, []
        return found

    def put_nowait(self, message: Message) -> None:
        """Keep a message of the training."""
        self.put_nowait_batch([message])

    def put_nowait_batch(self, messages: Sequence[Message]) -> None:
        """Keep messages of the training."""
        with self._lock:
            self._messages += messages


class LoneWorkers:
    """Launcher of groups of one worker each."""

    def __init__(self) -> None:
        self._running: list[_Running] = []
        self._messages: list[Message] = []

    def reserve(self, work: GroupJob) -> Reservation:
        """Request the worker's room."""
        return Reservation([work.needs])

    def start(self, work: GroupJob, room: Room) -> _Running:
        """Start the worker in its room; the room is released at its end."""
        self._running.append(_Running(work, room, self._messages))
        return self._running[-1]

    def wait(self, seconds: float) -> None:
        """Wait until one of the workers has ended, at most this long."""
        if going := [one.result for one in self._running if not one.is_over]:
            ray.wait(going, timeout=seconds)

    def messages(self) -> list[Message]:
        """Return the messages that have come since the last call."""
        for one in self._running:
            one.collect()
        found = self._messages[:]
        self._messages.clear()
        return found

    def close(self) -> None:
        """Do nothing: the launches end their workers."""


class _Running:
    """A running worker.

    Attributes:
        result: Reference to the failure of its run.
        is_over: Whether it has ended.
    """

    def __init__(self, work: GroupJob, room: Room, messages: list[Message]) -> None:
        self._room, self._messages = room, messages
        options = options_in(room.group, work.needs)
        self._actor = ray.remote(TrainingWorker).options(max_concurrency=2, **options).remote()
        self.result: Any = self._actor.run.remote(work)
        self.is_over = False
        self._asked: Any = None

    def collect(self) -> None:
        """Take over the messages that the worker has sent, and ask for the next ones."""
        if self.is_over:
            return
        if self._asked is not None:
            if not ray.wait([self._asked], timeout=0)[0]:
                return
            self._take(self._asked)
        self._asked = self._actor.read.remote()

    def ended(self) -> tuple[bool, BaseException | None]:
        """Whether the worker has ended, and its failure if there was one."""
        if not ray.wait([self.result], timeout=0)[0]:
            return False, None
        try:
            failure: BaseException | None = ray.get(self.result)
        except RayError as error:
            failure = _failure_of(error)
        for last in (self._asked, self._actor.read.remote()):
            if last is not None:
                self._take(last)
        self.cancel()
        return True, failure

    def cancel(self) -> None:
        """End the worker at once."""
        self.is_over = True
        ray.kill(self._actor)
        self._room.release()

    def _take(self, messages: Any) -> None:
        try:
            self._messages += ray.get(messages)
        except RayError:  # the worker is lost with its last messages; its run tells so
            return


def _failure_of(error: RayError) -> BaseException:
    """Return the failure of a worker whose process was lost."""
    if isinstance(error, ActorDiedError) and error.preempted:
        return NoRoomYetError(str(error))
    return LostError(RuntimeError(str(error)))
