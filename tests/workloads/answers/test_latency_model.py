from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from workloads.answers.latency import LatencySample, LatencySamples
from workloads.answers.latency_model import FEATURES, LatencyModel, candidates_to_measure, features, fit
from workloads.shapes.architecture import Architecture, Layer, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import paper_spaces, relative_spaces
from workloads.spec.budgets import LatencyTarget

_TARGET = LatencyTarget(name="t", batch_size=2, sequence_length=128)
_TEACHER = TeacherShape(Architecture.of_teacher(12, 768, 12, 3072), Vocabulary("bert", 30522, 512, 2, pooler=False))
# Milliseconds of each unit, about those of a core.
_UNITS = dict(zip(FEATURES, (0.5, 0.2, 2e-8, 4e-8, 3e-7, 2e-7, 1e-7), strict=True))


def _true_ms(architecture: Architecture) -> float:
    return sum(unit * count for unit, count in zip(_UNITS.values(), features(architecture, _TARGET), strict=True))


def _measured(architectures: Sequence[Architecture], noise: float = 0.0, seed: int = 0) -> LatencySamples:
    draw = np.random.default_rng(seed)
    samples = []
    for one in architectures:
        ms = _true_ms(one) * float(draw.lognormal(0, noise))
        samples.append(LatencySample(architecture=one.to_json(), p50_ms=ms, p95_ms=2 * ms, agrees=True))
    return LatencySamples(target=_TARGET, samples=samples, device="d", versions={}, measured_at="")


def _rest(spaces: Sequence[ProductSpace], chosen: Sequence[Architecture]) -> list[Architecture]:
    return [one for space in spaces for one in space if one not in chosen]


def _errors(model: LatencyModel, architectures: Sequence[Architecture]) -> Any:
    return np.array([abs(model.predict(one) / _true_ms(one) - 1) for one in architectures])


@pytest.mark.parametrize("spaces", [paper_spaces(), relative_spaces(_TEACHER, 3)], ids=["free heads", "stock shapes"])
def test_a_latency_that_is_linear_in_the_counts_is_recovered_exactly_on_unseen_candidates(
    spaces: list[ProductSpace],
) -> None:
    chosen = candidates_to_measure(spaces, seed=1)
    model = fit(_measured(chosen))
    assert _errors(model, _rest(spaces, chosen)).max() < 1e-6
    assert model.error is not None
    assert model.error.candidates == len(chosen)
    assert model.error.p90 < 1e-6


def test_where_the_ranges_are_free_the_units_themselves_are_found() -> None:
    architectures = [one for space in paper_spaces() for one in space]
    model = fit(_measured(random.Random(0).sample(architectures, 60)))
    assert model.milliseconds == pytest.approx(_UNITS, rel=1e-4)


def test_with_noise_the_reported_error_is_about_that_on_unseen_noisy_candidates() -> None:
    spaces = paper_spaces()
    chosen = candidates_to_measure(spaces, seed=2, count=24)
    noise = 0.15
    model = fit(_measured(chosen, noise))
    assert model.error is not None
    unseen = _rest(spaces, chosen)
    truth = _measured(unseen, noise, seed=1).samples
    real = np.median([abs(model.predict(a) / one.p50_ms - 1) for a, one in zip(unseen, truth, strict=True)])
    assert 0.6 < model.error.median / real < 1.8
    assert model.error.p90 > model.error.median > 0.05


def test_no_unit_of_work_takes_negative_time() -> None:
    for seed in range(5):
        model = fit(_measured(candidates_to_measure(paper_spaces(), seed), noise=0.5, seed=seed))
        assert min(model.milliseconds.values()) >= 0


def test_the_fit_is_the_best_of_all_that_are_not_negative() -> None:
    chosen = candidates_to_measure(paper_spaces(), seed=4)
    measured = _measured(chosen, noise=0.3, seed=4)
    model = fit(measured)
    rows = np.array([features(one, _TARGET) for one in chosen]) / [[one.p50_ms] for one in measured.samples]
    found = np.array([model.milliseconds[name] for name in FEATURES])
    slope = rows.T @ (1 - rows @ found)
    scale = np.linalg.norm(rows, axis=0)
    # The Karush-Kuhn-Tucker conditions: the gradient is 0 where a coefficient is positive, and not negative elsewhere.
    assert np.all(np.abs(slope / scale)[found > 0] < 1e-6)
    assert np.all((slope / scale)[found == 0] < 1e-6)
    assert (found == 0).any()


def test_p95_has_a_predictor_of_its_own() -> None:
    measured = _measured(candidates_to_measure(paper_spaces(), seed=0))
    one = paper_spaces()[0].smallest
    assert fit(measured, "p95").predict(one) == pytest.approx(2 * fit(measured, "p50").predict(one), rel=1e-6)


def test_a_predictor_survives_json() -> None:
    model = fit(_measured(candidates_to_measure(paper_spaces(), seed=0), noise=0.1))
    again = LatencyModel.model_validate_json(model.model_dump_json())
    assert again == model
    assert again.predict(paper_spaces()[1].largest) == model.predict(paper_spaces()[1].largest)


def test_a_single_candidate_can_be_fitted_but_gives_no_error() -> None:
    one = paper_spaces()[0].smallest
    model = fit(_measured([one]))
    assert model.predict(one) == pytest.approx(_true_ms(one))
    assert model.error is None


def test_the_counts_add_up_to_the_multiply_accumulates_of_the_cost() -> None:
    ragged = Architecture(96, (Layer(2, 16, 100, 0), Layer(4, 16, 300, 3)))
    found = dict(zip(FEATURES, features(ragged, _TARGET), strict=True))
    flops = student_cost(_TEACHER, ragged, _TARGET.sequence_length).flops
    assert found["matmul"] + found["attention"] == _TARGET.batch_size * flops
    assert found["layers"] == 2
    assert found["inner"] == _TARGET.batch_size * 128 * 400


def test_candidates_hold_the_ends_of_every_sub_space_and_its_corners_before_others() -> None:
    spaces = paper_spaces()
    chosen = candidates_to_measure(spaces, seed=5)
    assert len(set(chosen)) == len(chosen) == 20
    assert {space.smallest for space in spaces} | {space.largest for space in spaces} <= set(chosen)
    tiny = spaces[0]
    corners = {
        one for one in tiny
        if len(one.layers) in (4, 7) and one.hidden_size in (128, 224) and one.layers[0].heads in (7, 10)
    }  # fmt: skip
    assert set(chosen) & set(tiny) <= corners
    counts = [sum(one in set(space) for one in chosen) for space in spaces]
    assert max(counts) - min(counts) <= 1


def test_candidates_follow_from_the_seed() -> None:
    spaces = paper_spaces()
    assert candidates_to_measure(spaces, 1) == candidates_to_measure(spaces, 1)
    assert candidates_to_measure(spaces, 1) != candidates_to_measure(spaces, 2)


def test_of_a_small_sub_space_every_candidate_is_measured_once() -> None:
    small = ProductSpace("s", (2,), (64, 128), (2.0,), None, 64, 12)
    assert candidates_to_measure([small, small], 0) == [small.smallest, small.largest]


def test_candidates_whose_repeats_disagree_have_little_say_and_are_counted() -> None:
    spaces = paper_spaces()
    chosen = candidates_to_measure(spaces, seed=3)
    measured = _measured(chosen, noise=0.01)
    # Eight of twenty measurements were disturbed, and took up to four times as long.
    disturbed = [
        one.model_copy(update={"p50_ms": one.p50_ms * (1.5 + number % 3), "agrees": False}) if number % 5 > 2 else one
        for number, one in enumerate(measured.samples)
    ]
    known = measured.model_copy(update={"samples": disturbed})
    taken_for_good = [one.model_copy(update={"agrees": True}) for one in disturbed]
    weighed, blind = fit(known), fit(measured.model_copy(update={"samples": taken_for_good}))
    assert (weighed.samples, weighed.doubtful, blind.doubtful) == (20, 8, 0)
    rest = _rest(spaces, chosen)
    assert np.median(_errors(weighed, rest)) < 0.5 * np.median(_errors(blind, rest))
    assert weighed.error is not None and blind.error is not None
    assert weighed.error.candidates == 12, "what the disturbed took is not known"
    assert weighed.error.median < blind.error.median


def test_where_all_repeats_disagree_there_is_a_predictor_all_the_same() -> None:
    measured = _measured(candidates_to_measure(paper_spaces(), seed=0))
    doubtful = [one.model_copy(update={"agrees": False}) for one in measured.samples]
    model = fit(measured.model_copy(update={"samples": doubtful}))
    assert model.milliseconds == pytest.approx(fit(measured).milliseconds)
    assert model.error is not None and model.error.candidates == model.doubtful == 20


def test_a_space_of_millions_is_drawn_from_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = tuple(Fraction(one, 250) for one in range(500, 1001))
    huge = ProductSpace("huge", tuple(range(1, 13)), tuple(range(64, 769)), ratios, (6, 12), 64, 12)
    monkeypatch.setattr(ProductSpace, "__iter__", lambda self: pytest.fail("listed"))
    chosen = candidates_to_measure([huge], seed=3, count=60)
    assert len(set(chosen)) == 60 and all(one in huge for one in chosen)
    assert chosen == candidates_to_measure([huge], seed=3, count=60)
    assert {huge.smallest, huge.largest} <= set(chosen)
