from __future__ import annotations

import json
from pathlib import Path

import pytest

from workloads.craft.text import hub
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [("org/name", True), ("name", True), ("./folder", False), ("/abs/x", False), ("s3://b/x", False), ("a/b/c", False)],
)
def test_ids_are_told_from_folders(dataset: str, expected: bool) -> None:
    assert hub.is_hub_id(dataset) is expected


def test_a_dataset_is_streamed_by_its_shards(tmp_path: Path) -> None:
    # `datasets` streams a folder of files by the same call as a dataset on the hub.
    for shard in range(3):
        rows = [json.dumps({"text": f"{shard} {row}"}) for row in range(4)]
        (tmp_path / f"part-{shard}.jsonl").write_text("\n".join(rows))
    splits = hub.plan_hub_splits(CorpusSpec(dataset=str(tmp_path)), None)
    assert len(splits) == 3
    texts = [
        text
        for split in splits
        for piece in split.pieces
        for (text,) in hub.read(piece, ["text"], "corpus.text_column")
    ]
    assert sorted(texts) == [f"{shard} {row}" for shard in range(3) for row in range(4)]


def test_a_missing_column_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}')
    (split,) = hub.plan_hub_splits(CorpusSpec(dataset=str(tmp_path)), None)
    with pytest.raises(InputError, match="body") as caught:
        list(hub.read(split.pieces[0], ["text"], "corpus.text_column"))
    assert caught.value.errors[0].field == "corpus.text_column"


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    with pytest.raises(InputError, match="nope") as caught:
        hub.plan_hub_splits(CorpusSpec(dataset=str(tmp_path), split="nope"), None)
    assert caught.value.errors[0].field == "corpus.dataset"


@pytest.mark.parametrize("dataset", ["no-such-org/no-such-set", "not a valid id!"])
def test_a_hub_that_is_not_reached_is_told(monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    # A closed local port stands for a hub that is down, so that the test needs no network.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=dataset[:8]) as caught:
        hub.resolve_revision(dataset)
    assert caught.value.errors[0].field == "corpus.dataset"
