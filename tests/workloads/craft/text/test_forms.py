"""Rows of teachers with a head: what their own tokenizers and libraries make of texts and pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from tests.teachers import FAMILIES, SENTENCES, add_modules
from workloads.craft.blocks import Blocks, TokenRows
from workloads.craft.outputs import teacher_outputs
from workloads.craft.scoring import heldout_batches
from workloads.craft.teacher import open_teacher
from workloads.craft.text.forms import TextForm, form_of
from workloads.craft.text.sources import list_sources
from workloads.craft.text.splits import plan_splits
from workloads.craft.text.tokenise import HASHES, Recipe, document_hash, tokenise_split
from workloads.craft.text.tokenizer import Tokenizer
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec
from workloads.storage.storage import Storage

Make = Callable[..., Path]
SHORT = ["Who is it?", "What is lost?", "Is the dog lazy, or is it the fox that jumped over it 42 times?"]
PAIRS = [(one, other) for one in SHORT for other in SENTENCES]


def rows_of(root: Path, spec: CorpusSpec, tokenizer: Tokenizer, form: TextForm, length: int = 40) -> TokenRows:
    """Tokenise a corpus, all of it as held-out text."""
    recipe, storage, shards = Recipe(spec, length, "documents", HASHES, form), Storage.open(str(root / "storage")), []
    for split in plan_splits(list_sources(spec), spec):
        shards += tokenise_split(storage, "text", split, recipe, tokenizer).sides["heldout"].shards
    blocks = Blocks(storage, "text", tuple(shards), length)
    read = blocks.read()
    stream = next(blocks.batches(0, blocks.rows))  # the same rows, shuffled
    assert sorted(map(tuple, stream.input_ids)) == sorted(map(tuple, read.input_ids))
    if read.token_types is not None and stream.token_types is not None:
        both = [np.concatenate([one.input_ids, one.token_types], axis=1) for one in (stream, read)]
        assert sorted(map(tuple, both[0])) == sorted(map(tuple, both[1]))
    return read


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_read_as_the_tokenizer_reads_them(
    make_teacher: Make, tmp_path: Path, family: str, ending: str
) -> None:
    folder, file = make_teacher(tmp_path / "teacher", family, layers=1), tmp_path / f"pairs.{ending}"
    table = [{"a": one, "b": other, "text": "unused"} for one, other in PAIRS] + [{"a": "alone", "b": None, "text": ""}]
    if ending == "jsonl":
        file.write_text("\n".join(map(json.dumps, table)))
    else:
        pq.write_table(pa.Table.from_pylist(table), file)
    spec = CorpusSpec(paths=[str(file)], text_columns=["a", "b"])
    rows = rows_of(tmp_path, spec, Tokenizer.load(folder), TextForm())
    wanted: Any = AutoTokenizer.from_pretrained(folder)(
        *map(list, zip(*PAIRS, strict=True)), truncation=True, max_length=40, padding="max_length", return_tensors="np"
    )
    assert (rows.input_ids == wanted["input_ids"]).all()
    real = np.ones_like(rows.input_ids, dtype=bool) if rows.mask is None else rows.mask
    assert (real == wanted["attention_mask"].astype(bool)).all()
    assert (wanted["attention_mask"].sum(1) == 40).any()  # some are truncated
    types = wanted.get("token_type_ids")
    if types is None or not types.any():
        assert rows.token_types is None
    else:
        assert rows.token_types is not None
        assert (rows.token_types == types).all()


def test_texts_may_be_cut_at_their_beginning(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "teacher", "bert", layers=1)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": "left"}))
    tokenizer, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    text = " ".join(SENTENCES)
    assert tokenizer.encode_whole([text], 12)[0] == theirs(text, truncation=True, max_length=12)["input_ids"]
    settings["truncation_side"] = "right"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Tokenizer.load(folder).fingerprint != tokenizer.fingerprint


def test_rows_of_an_embedding_model_are_what_its_library_encodes(make_teacher: Make, tmp_path: Path) -> None:
    prompts = {"query": "Ask: ", "document": ""}
    folder = add_modules(
        make_teacher(tmp_path / "teacher", "bert", layers=2),
        prompts=prompts, default_prompt_name="query", do_lower_case=True, max_seq_length=30,
    )  # fmt: skip
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES))
    teacher, theirs = open_teacher(folder, "embedding"), SentenceTransformer(str(folder), device="cpu")
    form = form_of(teacher.shape.head)
    assert form == TextForm(("Ask: ", ""), lowercase=True)
    spec = CorpusSpec(paths=[str(tmp_path / "texts.txt")], documents="line")
    rows = rows_of(tmp_path, spec, Tokenizer.load(folder), form, length=30)
    vectors = teacher_outputs(teacher, heldout_batches(rows, 4))
    before = [form.prompts[document_hash(text) % 2] for text in SENTENCES]
    assert set(before) == {"Ask: ", ""}
    for vector, text, prompt in zip(vectors, SENTENCES, before, strict=True):
        expected = torch.from_numpy(theirs.encode([text], prompt=prompt))[0]
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)


def test_files_without_columns_hold_no_pairs(make_teacher: Make, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(make_teacher(tmp_path / "teacher", "bert", layers=1))
    (tmp_path / "texts.txt").write_text("a text")
    (tmp_path / "rows.jsonl").write_text('{"a": "x", "c": 3}')
    for name, words in (("texts.txt", "has no columns"), ("rows.jsonl", "has no 'b'")):
        with pytest.raises(InputError, match=words) as caught:
            rows_of(tmp_path, CorpusSpec(paths=[str(tmp_path / name)], text_columns=["a", "b"]), tokenizer, TextForm())
        assert caught.value.errors[0].field == "corpus.text_columns"
