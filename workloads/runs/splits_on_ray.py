"""Tokenising the splits of a corpus with Ray Data, one task each, wherever a CPU is free."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.room import POLL_SECONDS, OnWait
from workloads.craft.text.shards import Shard
from workloads.craft.text.splits import Split
from workloads.craft.text.tokenise import Recipe, SideStats, SplitStats, tokenise_split
from workloads.craft.text.tokenizer import Tokenizer
from workloads.runs.attempt.room import most_at_once
from workloads.runs.attempt.room_watch import RoomWatch
from workloads.spec.errors import FieldError, InputError
from workloads.storage.storage import Storage

_NEEDS = {"CPU": 1.0}


@dataclass(frozen=True)
class SplitWork:
    """Work on the splits of a corpus.

    Attributes:
        storage: The storage of the shards; the cluster's nodes must reach it.
        folder: The folder of the shards, relative to the storage.
        recipe: Settings.
        tokenizer: The teacher's tokenizer.
    """

    storage: Storage
    folder: str
    recipe: Recipe
    tokenizer: Tokenizer

    def do(self, split: Split) -> SplitStats:
        """Tokenise a split in this process."""
        return tokenise_split(self.storage, self.folder, split, self.recipe, self.tokenizer)


def tokenise_on_ray(
    work: SplitWork, splits: Sequence[Split], field: str, on_wait: OnWait
) -> Generator[SplitStats, None, None]:
    """Tokenise splits on the cluster, and yield their statistics as they come.

    Args:
        work: What is done with each.
        splits: The splits.
        field: The request's field that findings about the nodes name.
        on_wait: Called while no split is worked on, since all CPUs are taken, and with None at the end of the wait.

    Raises:
        InputError: No node that is up has a CPU, or a split cannot be read.
        NotStartedError: There is a free CPU, and Ray starts no split with it.
        OSError: The storage cannot be written.
    """
    import ray
    import ray.data
    from ray.util.queue import Queue

    assert ray.is_initialized(), "The caller connects to Ray."
    most_at_once(field, _NEEDS)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "Progress bars disabled"
    begun: Any = Queue(actor_options={"num_cpus": 0})
    task = _SplitTask(work.storage.url, work.folder, work.recipe, ray.put(work.tokenizer), begun)
    items = [{"split": split.to_json()} for split in splits]
    # One block per split, so one task each, scheduled when a CPU on any node is free.
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(task, num_cpus=_NEEDS["CPU"])
    # No prefetching: it would delay a split's result, or error, until the next one's. Closing cancels the rest.
    tables = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    watch = RoomWatch(_NEEDS, on_wait)
    seen: set[int] = set()
    done: set[int] = set()

    def look() -> None:
        seen.update(begun.get_nowait_batch(begun.qsize()))
        if seen - done:
            watch.started()
        else:
            watch.look()

    try:
        with contextlib.closing(watch), contextlib.closing(_watched(tables, look)) as found:
            for table in found:
                for text in table["outcome"].to_pylist():
                    stats = _stats_of(json.loads(text))
                    done.add(stats.index)
                    yield stats
    finally:
        begun.shutdown(force=True)


def _watched(tables: Generator[Any, None, None], look: Callable[[], None]) -> Generator[Any, None, None]:
    """Yield what a generator yields, call ``look`` now and then while it is waited for, and close it.

    The generator is advanced in a thread, only on demand. If ``look`` raises, the thread closes it later.
    """
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    given: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def advance() -> None:
        with contextlib.closing(tables):
            while wanted.get():
                try:
                    given.put((next(tables), None))
                except BaseException as error:
                    given.put((None, error))

    def answer() -> tuple[Any, BaseException | None]:
        wanted.put(True)
        while True:
            try:
                return given.get(timeout=POLL_SECONDS)
            except queue.Empty:
                look()

    thread = threading.Thread(target=advance, name="splits", daemon=True)
    thread.start()
    idle = True
    try:
        while True:
            idle = False
            table, error = answer()
            idle = True
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield table
    finally:
        wanted.put(False)
        if idle:
            thread.join()


@dataclass(frozen=True)
class _SplitTask:
    """Task of one split on a worker.

    Errors that a retry cannot fix are returned, not raised. So Ray neither retries nor prints a trace, and the driver
    gets the original error.

    Attributes:
        tokenizer: An object ref; workers of a node share one copy.
        begun: A queue that is told the numbers of the splits that are begun.
    """

    storage_url: str
    folder: str
    recipe: Recipe
    tokenizer: Any
    begun: Any

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        import ray

        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one CPU
        try:
            split = Split.from_json(row["split"])
            self.begun.put_nowait(split.index)
            work = SplitWork(Storage.open(self.storage_url), self.folder, self.recipe, ray.get(self.tokenizer))
            stats = work.do(split)
        except InputError as error:
            outcome: dict[str, Any] = {"input_errors": [[e.field, e.problem, e.remedy] for e in error.errors]}
        except OSError as error:
            outcome = {"os_error": [error.errno, error.strerror or str(error)]}
        else:
            outcome = asdict(stats)
        return {"outcome": json.dumps(outcome)}


def _stats_of(outcome: dict[str, Any]) -> SplitStats:
    if errors := outcome.get("input_errors"):
        raise InputError([FieldError(*error) for error in errors])
    if os_error := outcome.get("os_error"):
        raise OSError(*os_error)
    sides = {
        side: SideStats(found["documents"], found["bytes"], [Shard(**shard) for shard in found["shards"]])
        for side, found in outcome["sides"].items()
    }
    return SplitStats(**{**outcome, "sides": sides})
