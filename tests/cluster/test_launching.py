"""Launching: waits for resources, restarts after losses, and the end of starts without progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cluster.launching import FOLLOWS, Handle, Launch, Launches, LostError, NoRoomYetError, Room
from cluster.room import START_SECONDS, NotStartedError


@dataclass(frozen=True)
class Job:
    names: tuple[str, ...] = ("a",)
    needs: dict[str, float] = field(default_factory=lambda: {"CPU": 2.0, "GPU": 1.0})
    retries: int = 0


class FakeRoom:
    def __init__(self, free: bool) -> None:
        self.free, self.released = free, False

    def granted(self, seconds: float) -> bool:
        return self.free

    @property
    def wait(self) -> str | None:
        return "waiting for 2 CPU"

    def release(self) -> None:
        self.released = True


class FakeHandle:
    def __init__(self) -> None:
        self.end: tuple[bool, BaseException | None] = (False, None)
        self.cancelled = False

    def ended(self) -> tuple[bool, BaseException | None]:
        return self.end

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """Simulated cluster, whose free resources and clock the test sets."""

    def __init__(self) -> None:
        self.now, self.free = 0.0, True
        self.rooms: list[FakeRoom] = []
        self.handles: list[FakeHandle] = []
        self.waits: list[tuple[tuple[str, ...], str | None]] = []

    def reserve(self, work: Job) -> FakeRoom:
        self.rooms.append(FakeRoom(self.free))
        return self.rooms[-1]

    def start(self, work: Job, room: Room) -> Handle:
        room.release()
        self.handles.append(FakeHandle())
        return self.handles[-1]

    def told(self, names: Sequence[str], why: str | None) -> None:
        self.waits.append((tuple(names), why))

    def launch(self, work: Job | None = None) -> Launch:
        return Launch(work or Job(), self, self.told, lambda: self.now)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_is_taken_is_waited_for_without_end_and_told_once(stage: Stage) -> None:
    stage.free = False
    launch = stage.launch()
    for _ in range(100):
        stage.now += START_SECONDS
        assert not launch.go_on()
    assert stage.waits == [(("a",), "waiting for 2 CPU")] and not stage.handles
    stage.rooms[0].free = True
    assert not launch.go_on()
    assert stage.waits[-1] == (("a",), None) and stage.rooms[0].released
    launch.works()
    stage.now += 100 * START_SECONDS
    assert not launch.go_on(), "what works takes as long as it takes"
    stage.handles[0].end = (True, None)
    assert launch.go_on()


def test_what_has_room_and_does_not_start_is_given_up_with_the_reason(stage: Stage) -> None:
    launch = stage.launch()
    launch.go_on()
    stage.now = START_SECONDS - 1
    assert not launch.go_on()
    stage.now = START_SECONDS + 1
    with pytest.raises(NotStartedError, match="2 CPU, 1 GPU are free, but Ray started no worker"):
        launch.go_on()


def test_starts_that_find_no_room_though_it_is_free_count_together(stage: Stage) -> None:
    launch = stage.launch()
    launch.go_on()
    with pytest.raises(NotStartedError):
        for _ in range(20):
            stage.now += 60
            stage.handles[-1].end = (True, NoRoomYetError())
            launch.go_on()
            launch.go_on()
    assert 9 <= len(stage.handles) <= 11


def test_starts_that_lose_their_room_to_others_never_count(stage: Stage) -> None:
    launch = stage.launch()
    launch.go_on()
    for _ in range(50):
        stage.now += 60
        stage.free = False
        stage.handles[-1].end = (True, NoRoomYetError())
        launch.go_on()
        launch.go_on()
        stage.rooms[-1].free = True
        launch.go_on()
    assert len(stage.handles) == 51


@pytest.mark.parametrize("retries", [0, 2])
def test_a_lost_worker_is_replaced_as_often_as_the_work_says(stage: Stage, retries: int) -> None:
    launch = stage.launch(Job(retries=retries))
    launch.go_on()
    for _ in range(retries):
        launch.works()
        stage.handles[-1].end = (True, LostError(OSError("gone")))
        assert not launch.go_on()
        assert not launch.go_on()
    stage.handles[-1].end = (True, LostError(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        launch.go_on()
    assert len(stage.handles) == 1 + retries


def test_a_restart_that_has_room_and_does_not_start_is_given_up(stage: Stage) -> None:
    launch = stage.launch(Job(retries=1))
    launch.go_on()
    launch.works()
    stage.now += 100 * START_SECONDS
    stage.handles[-1].end = (True, LostError(OSError("gone")))
    assert not launch.go_on()
    launch.works()  # late news of the worker that was lost
    assert not launch.go_on()
    stage.now += START_SECONDS - 1
    assert not launch.go_on()
    stage.now += 2
    with pytest.raises(NotStartedError):
        launch.go_on()


def test_a_failure_of_the_work_is_raised_at_once(stage: Stage) -> None:
    launch = stage.launch(Job(retries=3))
    launch.go_on()
    stage.handles[0].end = (True, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        launch.go_on()
    launch.close()
    assert not stage.handles[0].cancelled


def test_no_more_than_fit_go_on_at_once_and_the_others_follow(stage: Stage) -> None:
    jobs = [Job((name,)) for name in "abc"]
    launches = Launches(jobs, 2, stage, stage.told)
    assert stage.waits == [(("c",), FOLLOWS)]
    for _ in range(3):
        assert not launches.go_on()
    assert len(stage.handles) == 2
    launches.works(["b"])
    stage.handles[0].end = (True, None)
    launches.go_on()
    launches.go_on()
    launches.go_on()
    assert len(stage.handles) == 3 and (("c",), None) in stage.waits
    launches.close()
    assert [handle.cancelled for handle in stage.handles] == [False, True, True]


def test_closing_gives_the_room_of_what_waits_back(stage: Stage) -> None:
    stage.free = False
    launch = stage.launch()
    launch.go_on()
    launch.close()
    assert stage.rooms[0].released
