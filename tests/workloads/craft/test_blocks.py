from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from workloads.craft import blocks
from workloads.craft.blocks import Blocks
from workloads.craft.text.packing import Rows
from workloads.craft.text.shards import ShardWriter
from workloads.storage import artifacts
from workloads.storage.storage import Storage

LENGTH = 8
KEY = artifacts.Key("corpus", {"test": 1})


def _blocks(root: Path, shards: list[int], padded: int = 0) -> Blocks:
    """Row n starts with the number n; the last ``padded`` rows of each shard have 5 real tokens."""
    storage = Storage.open(str(root))
    folder = artifacts.build_folder(KEY, "b")
    written = []
    start = 0
    for split, count in enumerate(shards):
        ids = np.arange(start, start + count, dtype=np.int32)[:, None] * np.ones((1, LENGTH), np.int32)
        lengths = np.full(count, LENGTH, np.int32)
        lengths[count - padded :] = 5
        writer = ShardWriter(storage, folder, "train", split, LENGTH)
        writer.add(Rows(ids, lengths))
        writer.flush()
        written += [vars(shard) if hasattr(shard, "__dict__") else shard for shard in writer.shards]
        start += count
    summary = {"sequence_length": LENGTH, "sides": {"train": {"shards": written}}}
    return Blocks.open(storage, artifacts.commit(storage, KEY, "b", summary), "train")


def _numbers(found: Blocks, seed: int, batch: int, start: int, count: int) -> list[list[int]]:
    batches = itertools.islice(found.batches(seed, batch, start), count)
    return [rows.input_ids[:, 0].tolist() for rows in batches]


@pytest.fixture(params=[1 << 23, 16 * LENGTH, LENGTH])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(blocks, "WINDOW_TOKENS", request.param)
    return int(request.param)


def test_rows_are_read_by_index_in_the_order_asked_for(tmp_path: Path) -> None:
    found = _blocks(tmp_path, [5, 7, 3], padded=1)
    assert found.rows == 15
    rows = found.read([14, 0, 6, 0])
    assert rows.input_ids.dtype == np.int64
    assert rows.input_ids[:, 0].tolist() == [14, 0, 6, 0]
    assert rows.mask is not None
    assert rows.mask.sum(axis=1).tolist() == [5, 8, 8, 8]
    assert found.read([0, 5]).mask is None
    assert found.read().input_ids[:, 0].tolist() == list(range(15))


def test_every_epoch_has_every_row_once_in_another_order(tmp_path: Path, window: int) -> None:
    found = _blocks(tmp_path, [5, 7, 3, 9])
    numbers = list(itertools.chain(*_numbers(found, 1, 6, 0, 8)))
    first, second = numbers[:24], numbers[24:]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    assert first != sorted(first)


def test_the_order_follows_the_seed(tmp_path: Path) -> None:
    found = _blocks(tmp_path, [5, 7, 3, 9])
    assert _numbers(found, 1, 4, 0, 10) == _numbers(found, 1, 4, 0, 10)
    assert _numbers(found, 1, 4, 0, 10) != _numbers(found, 2, 4, 0, 10)


def test_a_stream_from_any_step_is_the_tail_of_the_whole(tmp_path: Path, window: int) -> None:
    found = _blocks(tmp_path, [5, 7, 3, 9])
    whole = _numbers(found, 3, 5, 0, 24)  # five epochs
    for start in range(24):
        assert _numbers(found, 3, 5, start, 24 - start) == whole[start:]


def test_a_batch_may_be_larger_than_the_corpus(tmp_path: Path) -> None:
    found = _blocks(tmp_path, [2, 1])
    (batch,) = _numbers(found, 0, 7, 0, 1)
    assert np.bincount(batch).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_a_later_start_reads_no_earlier_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WINDOW_TOKENS", LENGTH)
    found = _blocks(tmp_path, [4] * 20)
    read: list[str] = []

    def counting(storage: Storage, path: str, length: int) -> Rows:
        read.append(path)
        return read_shard(storage, path, length)

    read_shard = blocks.read_shard
    monkeypatch.setattr(blocks, "read_shard", counting)
    batches = found.batches(0, 4, start_step=1_000_015)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(read) <= 3


def test_the_mask_is_there_only_where_a_row_has_padding(tmp_path: Path) -> None:
    found = _blocks(tmp_path, [6, 6], padded=1)
    for rows in itertools.islice(found.batches(0, 2), 12):
        short = {int(number) in (5, 11) for number in rows.input_ids[:, 0]}
        assert (rows.mask is not None) == (True in short)
        if rows.mask is not None:
            assert rows.mask.sum(axis=1).tolist() == [5 if n in (5, 11) else 8 for n in rows.input_ids[:, 0]]


def test_batches_are_the_caller_s_own(tmp_path: Path) -> None:
    batches = _blocks(tmp_path, [6]).batches(0, 3)
    first = next(batches)
    before = first.input_ids.copy()
    next(batches)
    assert (first.input_ids == before).all()


def test_closing_the_stream_ends_its_thread(tmp_path: Path) -> None:
    batches = _blocks(tmp_path, [6, 6]).batches(0, 3)
    next(batches)
    assert any(thread.name.startswith("blocks") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("blocks") for thread in threading.enumerate())
