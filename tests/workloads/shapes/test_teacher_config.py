from __future__ import annotations

import inspect
import json
import time
import typing
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, MPNetConfig, RobertaConfig, XLMRobertaConfig
from transformers.activations import ACT2FN

from tests.teacher_files import CONFIG, write_teacher
from workloads.shapes.teacher_config import _KINDS, ACTIVATIONS, encoder_settings
from workloads.shapes.teacher_files import check_teacher
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec


def refusal(folder: Path) -> str:
    started = time.process_time()
    with pytest.raises(InputError) as caught:
        check_teacher(TeacherSpec(model=str(folder)))
    assert time.process_time() - started < 1
    (finding,) = caught.value.errors
    assert finding.field == "teacher.model" and finding.remedy
    return finding.problem


WRONG: dict[str, list[Any]] = {
    "layer_norm_eps": ["1e-12", 1, None, 0.0, float("nan"), 2.0],
    "initializer_range": [1, "0.02", None, -1.0, float("inf")],
    "classifier_dropout": ["null", 1.5],
    "hidden_act": [None, "geluu", 3, ["gelu"], "x" * 10_000],
    "hidden_dropout_prob": [None, "0.1", -0.1, True],
    "pad_token_id": ["0", -1, 100, 1.0, "x"],
    "num_labels": ["3"],
    "id2label": [["a", "b"], {"x": "a"}, {"0": 1}],
    "label2id": [["a"], {"a": None}],
    "num_hidden_layers": [None, "6", 6.0, 0, -1, 10**7, 10**4000, True, [6]],
    "hidden_size": [None, "384", 0, 10**40],
    "vocab_size": [None, 0, 1 << 40],
    "max_position_embeddings": [0, None],
    "type_vocab_size": [None, -1],
    "num_attention_heads": [0, 5, None],
    "use_cache": ["yes", None],
    "architectures": ["BertModel"],
    "tokenizer_class": [7],
    "model_type": [["bert"], {"a": 1}, 5],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_that_cannot_be_is_refused_with_key_value_and_remedy(tmp_path: Path, key: str, value: object) -> None:
    folder = write_teacher(tmp_path)
    huge = value if isinstance(value, int) and value > 1 << 60 else None  # Python writes no number of 4,000 digits
    text = json.dumps(CONFIG | {key: value if huge is None else "huge"})
    (folder / "config.json").write_text(text.replace('"huge"', "9" * (5000 if huge == 10**4000 else 41)))
    problem = refusal(folder)
    assert "family" in problem or key in problem or "not valid JSON" in problem
    assert len(problem) < 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "null",
        "{" * 5000,
        '{"a": ' * 5000 + "1" + "}" * 5000,
        "[" * 100_000,
        '{"a": 1' + "0" * 5000 + "}",
        "\xff",
    ],
)
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_teacher(tmp_path)
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_bytes(text.encode("latin-1"))
        assert name in refusal(folder)
        (folder / name).write_bytes(before) if before is not None else (folder / name).unlink()
    check_teacher(TeacherSpec(model=str(folder)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_a_file_of_300_mb_is_refused_by_its_size(tmp_path: Path, name: str) -> None:
    folder = write_teacher(tmp_path)
    with (folder / name).open("wb") as file:
        file.truncate(300 << 20)
    assert name in refusal(folder)


@pytest.mark.parametrize("family", [BertConfig, RobertaConfig, XLMRobertaConfig, MPNetConfig])
def test_every_setting_that_transformers_declares_is_checked_as_it_does(family: type) -> None:
    example = {int: 1, float: 0.5, bool: True, str: "gelu", type(None): None}
    for name, declared in inspect.get_annotations(family).items():
        if name in {"relative_attention_num_buckets", "model_type"} or typing.get_origin(declared) is typing.ClassVar:
            continue
        allowed = typing.get_args(declared) or (declared,)
        kind = _KINDS[name]
        for kind_of_value, value in example.items():
            if kind_of_value in allowed:
                assert kind.allows(value), (name, value)
            elif kind_of_value is not int or float not in allowed:
                assert not kind.allows(value), (name, value)


def test_the_activations_are_those_of_transformers_without_weights() -> None:
    assert set(ACTIVATIONS) == set(ACT2FN) - {"prelu", "xielu"}


def test_only_what_decides_the_encoder_is_kept() -> None:
    config = CONFIG | {"output_attentions": True, "id2label": {"0": "a"}, "pad_token_id": None}
    assert encoder_settings(config) == {key: value for key, value in CONFIG.items() if key != "model_type"}
    assert "id2label" in encoder_settings(config, head=True)
