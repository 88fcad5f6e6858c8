"""A chosen student as a sub-space of its own, and the settings it is polished by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workloads.craft.objectives.term import LearnedMap
from workloads.craft.polishing import first_batch, polish_training, single_student_space
from workloads.craft.sandwich import sandwich
from workloads.craft.signals import Batch, Wants
from workloads.craft.superlm_files import build_superlm, continue_superlm, save_superlm, wiring_of
from workloads.craft.teacher import open_teacher
from workloads.shapes.search_space import ProductSpace
from workloads.spec.request import CompressionRequest, TrainingSpec, parse_request

STOCK = ProductSpace("tiny", (1, 2), (16, 32), (2.0, 2.5, 3.0), None, 16, 4)
FREE = ProductSpace("free", (2, 3), (16, 40), (1.7, 3.0), (1, 3), 16, 4)


@pytest.mark.parametrize("space", [STOCK, FREE], ids=lambda space: space.name)
def test_every_architecture_is_a_sub_space_of_its_own(space: ProductSpace) -> None:
    ones = list(space)
    for one in ones:
        only = single_student_space(space, one)
        assert list(only) == [one]
        assert sandwich(only, TrainingSpec(), seed=0, step=3) == [one]
    assert len({single_student_space(space, one).name for one in ones}) == len(ones)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_student_begins_polishing_as_what_it_is_in_its_superlm(
    make_teacher: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher", family))
    superlm = build_superlm(teacher, FREE, order=None, maps=[LearnedMap("projection")]).superlm.eval()
    save_superlm(tmp_path, superlm)
    batch = Batch(torch.randint(5, 60, (2, 9)))
    for one in FREE:
        student = continue_superlm(tmp_path, single_student_space(FREE, one), wiring_of(teacher)).eval()
        with torch.no_grad():
            given, expected = (each(batch, one, Wants(output=True)).output_BLH for each in (student, superlm))
            torch.testing.assert_close(given, expected)
            mapped = [each.learned_map("projection", x) for each, x in ((student, given), (superlm, expected))]
            torch.testing.assert_close(*mapped)
        extracted, before = student.extract(one), superlm.extract(one)
        assert extracted.keys() == before.keys()
        assert all(extracted[name].equal(before[name]) for name in before)


def test_the_rate_of_the_superlms_and_a_length_of_its_own() -> None:
    training = polish_training(_request({"tokens": 1000}))
    assert training.learning_rate == pytest.approx(0.008)
    assert training.steps_for("any") == 1000 // (4 * 32)
    assert polish_training(_request({"tokens": 1000, "learning_rate": 0.5})).learning_rate == 0.5


def test_polishing_begins_behind_the_text_that_the_superlms_have_read() -> None:
    assert first_batch(_request({"tokens": 1000}, 1280).training) == 10
    assert first_batch(_request({"tokens": 1000}, {"tiny": 1280, "small": 1280, "base": 2690}).training) == 21


def _request(polish: dict[str, Any], tokens: int | dict[str, int] = 1280) -> CompressionRequest:
    return parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": ["x.txt"]},
            "training": {
                "tokens_per_superlm": tokens, "sequence_length": 32, "batch_size": 4, "learning_rate": 0.008,
            },
            "polish": polish,
            "budgets": [{"name": "any", "max_params": 10**9}],
        }
    )  # fmt: skip
