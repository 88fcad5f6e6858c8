"""Watching that work starts, by a clock and rooms that are told."""

from __future__ import annotations

import pytest

from cluster.room import START_SECONDS, NotStartedError
from workloads.runs.attempt.room_watch import RoomWatch
from workloads.runs.attempt.start_watch import StartWatch


class Room:
    def __init__(self, scene: Scene) -> None:
        self._scene, self.released = scene, False

    def granted(self, seconds: float) -> bool:
        return self._scene.free

    @property
    def wait(self) -> str:
        return "waiting for 1 CPU"

    def release(self) -> None:
        self.released = True


class Scene:
    def __init__(self) -> None:
        self.now, self.free = 0.0, True
        self.rooms: list[Room] = []
        self.told: list[str | None] = []
        self.watch = RoomWatch({"CPU": 1.0}, self.told.append, self._reserve, lambda: self.now)
        self.trials = StartWatch(self.watch)

    def _reserve(self, _: object) -> Room:
        self.rooms.append(Room(self))
        return self.rooms[-1]

    def go_on(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1
            self.trials.on_step_begin(0, [])


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_trials_that_start_soon_are_neither_waited_for_nor_looked_after(scene: Scene) -> None:
    scene.go_on(5)
    scene.trials.on_trial_start(0, [], None)
    scene.free = False
    scene.go_on(2 * START_SECONDS)
    assert not scene.told and not scene.rooms


def test_what_is_taken_is_waited_for_without_end(scene: Scene) -> None:
    scene.free = False
    scene.go_on(5 * START_SECONDS)
    assert scene.told == ["waiting for 1 CPU"]
    scene.free = True
    scene.go_on(10)
    assert scene.told == ["waiting for 1 CPU", None]
    scene.trials.on_trial_start(0, [], None)
    assert all(room.released for room in scene.rooms)


def test_what_has_room_and_does_not_start_is_given_up(scene: Scene) -> None:
    with pytest.raises(NotStartedError, match="1 CPU are free"):
        scene.go_on(1.2 * START_SECONDS)
    assert scene.now > START_SECONDS


def test_work_that_starts_now_and_then_is_watched_anew_each_time(scene: Scene) -> None:
    for _ in range(3):
        scene.go_on(0.7 * START_SECONDS)  # room, but no start
        scene.watch.started()
        scene.free = False
        scene.go_on(2 * START_SECONDS)
        scene.watch.started()
        scene.free = True
    assert scene.told == ["waiting for 1 CPU", None] * 3
    assert all(room.released for room in scene.rooms)
    with pytest.raises(NotStartedError):
        scene.go_on(1.2 * START_SECONDS)
