"""Keys of SuperLMs: they contain all settings that decide the weights, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from workloads.runs.training.train import superlm_key
from workloads.shapes.search_space import ProductSpace
from workloads.spec.request import parse_request

SPACE = ProductSpace("small", (2,), (32,), (2.0,), None, 16, 4)


def key(**training: Any) -> str:
    request = parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": ["a.txt"]},
            "budgets": [{"name": "any", "max_params": 1}],
            "training": training,
        }
    )
    return superlm_key(request, SPACE, "teacher", "corpus").fingerprint


@pytest.mark.parametrize(
    "training",
    [{"workers": 3}, {"micro_batch_rows": 5}, {"placement": "apart"}, {"checkpoint_every_steps": 3}],
    ids=lambda training: next(iter(training)),
)
def test_how_a_superlm_is_trained_is_no_part_of_its_key(training: dict[str, Any]) -> None:
    assert key(**training) == key()


@pytest.mark.parametrize(
    "training",
    [{"precision": "bfloat16"}, {"batch_size": 16}, {"dropout": 0.0}, {"tokens_per_superlm": 30_000_000}],
    ids=lambda training: next(iter(training)),
)
def test_what_changes_weights_is(training: dict[str, Any]) -> None:
    assert key(**training) != key()
