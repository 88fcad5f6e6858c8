from __future__ import annotations

import numpy as np
import pytest

from workloads.answers.latency import (
    BUILT_IN_TARGETS,
    LatencyMeasure,
    known_targets,
    settled,
    summarise,
    summarise_closest,
)
from workloads.spec.budgets import LatencyTarget


def _noisy(middle: float, seed: int, runs: int = 60) -> list[float]:
    return list(middle * np.random.default_rng(seed).lognormal(0, 0.02, runs))


def test_percentiles_are_of_all_runs_and_p95_is_no_less_than_p50() -> None:
    found = summarise([_noisy(10, 1), _noisy(10, 2)])
    assert found.p50_ms == pytest.approx(10, rel=0.02)
    assert found.p50_ms <= found.p95_ms <= 11
    assert 0 < found.spread < 0.1
    assert found.repeats_p50_ms == pytest.approx((10, 10), rel=0.02)
    assert found.agrees


def test_what_the_machine_does_at_either_end_is_left_out() -> None:
    calm = [10.0] * 20
    found = summarise([[*calm, 5000.0], [*calm, 0.001]])
    assert (found.p50_ms, found.p95_ms, found.spread) == (10.0, 10.0, 0.0)


def test_a_slow_tail_longer_than_the_trimming_stays_in_p95() -> None:
    found = summarise([[10.0] * 54 + [30.0] * 6] * 2)
    assert found.p50_ms == 10.0
    assert found.p95_ms == 30.0


@pytest.mark.parametrize(("second", "agrees"), [(10.0, True), (10.9, True), (11.2, False), (8.9, False), (20.0, False)])
def test_repeats_agree_within_a_tenth_of_the_smaller(second: float, agrees: bool) -> None:
    assert summarise([[10.0] * 20, [second] * 20]).agrees is agrees


def test_own_targets_stand_beside_the_built_in_ones_and_win_over_them() -> None:
    own = [LatencyTarget(name="edge", resource="edge"), LatencyTarget(name="cpu-1", threads=2)]
    targets = known_targets(own)
    assert targets["edge"].resource == "edge"
    assert targets["cpu-1"].threads == 2
    assert targets["cpu-1-onnx"] == BUILT_IN_TARGETS["cpu-1-onnx"]
    assert BUILT_IN_TARGETS["cpu-1"].threads == 1


def test_built_in_targets_can_be_met_by_any_node_and_go_by_their_names() -> None:
    assert {name: target.name for name, target in BUILT_IN_TARGETS.items()} == {n: n for n in BUILT_IN_TARGETS}
    assert all(target.resource is None and target.device == "cpu" for target in BUILT_IN_TARGETS.values())


def test_a_measure_survives_json_and_gives_either_percentile() -> None:
    measure = LatencyMeasure(
        target=BUILT_IN_TARGETS["cpu-1"], p50_ms=2.0, p95_ms=3.0, spread=0.1, repeats_p50_ms=[2.0, 2.0], agrees=True,
        teacher_p50_ms=8.0, teacher_repeats_p50_ms=[8.0, 8.0], speed_up=4.0, device="a CPU", versions={"torch": "2"},
        measured_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    assert LatencyMeasure.model_validate_json(measure.model_dump_json()) == measure
    assert (measure.percentile_ms("p50"), measure.percentile_ms("p95")) == (2.0, 3.0)


def _measure(p50_ms: float, *, agrees: bool) -> LatencyMeasure:
    return LatencyMeasure(
        target=BUILT_IN_TARGETS["cpu-1"], p50_ms=p50_ms, p95_ms=p50_ms, spread=0.0, repeats_p50_ms=[p50_ms],
        agrees=agrees, teacher_p50_ms=8.0, teacher_repeats_p50_ms=[8.0], speed_up=8.0 / p50_ms, device="d",
        versions={}, measured_at="now",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measures", "given"),
    [
        ([_measure(2.0, agrees=True)], (2.0, True, 1)),
        ([_measure(9.0, agrees=False), _measure(2.0, agrees=True)], (2.0, True, 2)),
        ([_measure(one, agrees=False) for one in (9.0, 2.0, 4.0)], (4.0, False, 3)),
    ],
    ids=["at once", "at last", "never"],
)
def test_it_is_measured_again_until_the_repeats_agree_and_what_never_does_says_so(
    measures: list[LatencyMeasure], given: tuple[float, bool, int]
) -> None:
    left = iter(measures)
    found = settled(lambda: next(left))
    assert (found.p50_ms, found.agrees, found.tries) == given
    assert next(left, None) is None


def test_of_several_repeats_the_two_that_are_closest_count() -> None:
    found = summarise_closest([[30.0] * 10, [10.0] * 10, [90.0] * 10, [10.5] * 10])
    assert found.repeats_p50_ms == (10.0, 10.5) and found.agrees
    assert not summarise_closest([[30.0] * 10, [10.0] * 10, [90.0] * 10]).agrees
