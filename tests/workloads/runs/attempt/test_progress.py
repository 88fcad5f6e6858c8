from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from workloads.documents.job_folder import JobFolder, StepDocument
from workloads.runs.attempt.progress import Progress
from workloads.storage.storage import Storage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(Storage.open(str(tmp_path)), "cmp_1")


def _steps(folder: JobFolder) -> dict[str, StepDocument]:
    document = folder.read_progress(1)
    assert document is not None
    return {step.name: step for step in document.steps}


def test_steps_keep_their_declared_order_and_start_pending(folder: JobFolder) -> None:
    progress = Progress(folder, 1)
    progress.declare(["teacher", "corpus", "train-tiny"])
    progress.start("corpus", 10, "bytes")
    progress.flush()
    assert [(name, step.status) for name, step in _steps(folder).items()] == [
        ("teacher", "pending"), ("corpus", "running"), ("train-tiny", "pending"),
    ]  # fmt: skip


def test_the_rate_is_that_of_the_last_half_minute_and_gives_the_time_left(folder: JobFolder) -> None:
    clock = Clock()
    progress = Progress(folder, 1, clock)
    progress.declare(["train"])
    progress.start("train", 10_000, "tokens")
    progress.advance("train", 5_000)  # continued from a checkpoint: not the work of this second
    for done in range(5_000, 5_100):
        clock.now += 1
        progress.advance("train", done)
    for done in range(5_120, 6_120, 20):
        clock.now += 1
        progress.advance("train", done)
    progress.flush()
    step = _steps(folder)["train"]
    assert step.rate == pytest.approx(20)
    assert step.seconds_left == pytest.approx((10_000 - 6_100) / 20)


def test_the_time_that_a_step_waits_counts_for_no_rate(folder: JobFolder) -> None:
    clock = Clock()
    progress = Progress(folder, 1, clock)
    progress.declare(["train"])
    progress.start("train", 1_000, "tokens")
    for done in (10, 20):
        clock.now += 1
        progress.advance("train", done)
    progress.wait("train", "waiting for 2 CPU")
    progress.flush()
    step = _steps(folder)["train"]
    assert (step.note, step.rate, step.seconds_left, step.done) == ("waiting for 2 CPU", None, None, 20)
    clock.now += 3_600
    progress.wait("train", None)
    for done in (30, 40):
        clock.now += 1
        progress.advance("train", done)
    progress.flush()
    step = _steps(folder)["train"]
    assert (step.note, step.rate) == (None, pytest.approx(10))


def test_a_finished_step_is_whole_and_a_reused_one_says_so(folder: JobFolder) -> None:
    progress = Progress(folder, 1)
    progress.declare(["corpus", "train"])
    progress.start("corpus", 10, "bytes")
    progress.advance("corpus", 7)
    progress.finish("corpus")
    progress.start("train", 500, "tokens")
    progress.reuse("train")
    progress.flush()
    corpus, train = _steps(folder).values()
    assert (corpus.status, corpus.done, corpus.reused, corpus.seconds_left) == ("succeeded", 10, False, None)
    assert (train.status, train.done, train.reused) == ("succeeded", 500, True)
    assert [event.type for event in folder.read_events(1)] == ["reused"]


def test_a_failure_marks_only_the_steps_under_way(folder: JobFolder) -> None:
    progress = Progress(folder, 1)
    progress.declare(["corpus", "train", "search"])
    progress.start("corpus")
    progress.finish("corpus")
    progress.start("train")
    progress.fail("It went wrong.")
    progress.flush()
    assert [step.status for step in _steps(folder).values()] == ["succeeded", "failed", "pending"]


def test_a_curve_is_thinned_but_keeps_its_first_and_last_point(folder: JobFolder) -> None:
    progress = Progress(folder, 1)
    progress.declare(["train"])
    progress.start("train", 100_000, "tokens")
    for done in range(1, 100_001, 10):
        progress.point("train", done, 100_000, {"loss": 1.0})
    progress.point("train", 100_000, 100_000, {"loss": 0.5})
    progress.flush()
    events = folder.read_events(1)
    assert {event.data["unit"] for event in events} == {"tokens"}
    drawn = [event.data["done"] for event in events]
    assert drawn[0] == 1
    assert drawn[-1] == 100_000
    assert 150 < len(drawn) < 250


def test_it_writes_in_the_background_and_at_the_end_from_many_threads(folder: JobFolder) -> None:
    with Progress(folder, 1) as progress:
        progress.declare([f"train-{index}" for index in range(8)])

        def work(index: int) -> None:
            for done in range(200):
                progress.advance(f"train-{index}", done, 200)
                progress.event("tick", "", step=index)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 5
        while not folder.read_events(1) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert folder.read_events(1)
        progress.event("last", "")
    events = folder.read_events(1)
    assert [event.sequence for event in events] == list(range(1, 8 * 200 + 2))
    assert events[-1].type == "last"
    assert {step.done for step in _steps(folder).values()} == {199}


def test_a_storage_that_fails_for_a_moment_only_delays_the_news(folder: JobFolder, tmp_path: Path) -> None:
    progress = Progress(folder, 1)
    progress.declare(["corpus"])
    in_the_way = tmp_path / "jobs"
    in_the_way.write_text("a file where the folder should be")
    progress.flush()
    in_the_way.unlink()
    progress.flush()
    assert list(_steps(folder)) == ["corpus"]
