"""Fidelity's figures against independent computations, and what their intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy, kendalltau, spearmanr

from workloads.answers.fidelity import Fidelity
from workloads.craft.fidelity import vectors
from workloads.craft.fidelity.bootstrap import REPLICATES, Floats, RankCorrelation, draws, interval_of
from workloads.craft.fidelity.labels import of_one_label, of_several_labels
from workloads.craft.fidelity.values import lists_of, of_values
from workloads.craft.fidelity.vectors import of_vectors


def noisy(rows: int, size: int, noise: float, seed: int = 0) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(seed)
    teacher = draw.normal(size=(rows, size))
    return teacher, teacher + noise * draw.normal(size=(rows, size))


def test_agreement_and_divergence_of_one_label_are_those_of_plain_loops() -> None:
    teacher, student = noisy(400, 3, 1.0)
    found = of_one_label(teacher, student, ["a", "b", "c"])
    theirs, own = softmax(teacher, axis=1), softmax(student, axis=1)
    same = [first.argmax() == second.argmax() for first, second in zip(theirs, own, strict=True)]
    assert found.agreement == pytest.approx(np.mean(same))
    assert found.kl == pytest.approx(np.mean([entropy(one, other) for one, other in zip(theirs, own, strict=True)]))
    assert found.per_class is not None
    of_b = [right for right, row in zip(same, theirs, strict=True) if row.argmax() == 1]
    assert found.per_class["b"].count == len(of_b)
    assert found.per_class["b"].agreement == pytest.approx(np.mean(of_b))
    assert sum(one.count for one in found.per_class.values()) == found.rows == 400


def test_a_student_that_answers_alike_has_perfect_figures_and_a_class_that_never_occurs_has_none() -> None:
    logits = np.array([[3.0, 1.0, -50.0], [0.0, 2.0, -50.0], [5.0, 1.0, -50.0]])
    found = of_one_label(logits, logits * 1.0, ["a", "b", "c"])
    assert (found.agreement, found.kl, found.interval["agreement"]) == (1.0, 0.0, (1.0, 1.0))
    assert found.per_class is not None
    assert (found.per_class["c"].count, found.per_class["c"].agreement) == (0, None)
    assert of_one_label(logits, logits[:, [1, 0, 2]], ["a", "b", "c"]).agreement == 0.0


def test_logits_far_apart_give_finite_divergences() -> None:
    logits = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    for found in (of_one_label(logits, -logits, ["a", "b"]), of_several_labels(logits, -logits, ["a", "b"])):
        assert found.kl is not None
        assert math.isfinite(found.kl) and found.kl > 100


def test_several_labels_are_decided_one_by_one() -> None:
    teacher = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [2.0, 0.5]])
    student = np.array([[0.5, -2.0], [1.0, -1.0], [-3.0, -1.0], [-1.0, 0.5]])
    found = of_several_labels(teacher, student, ["x", "y"])
    assert found.agreement == 0.5  # the first and the third row
    assert found.per_class is not None
    assert found.per_class["x"].count == 3
    assert found.per_class["x"].agreement == pytest.approx(2 / 3)
    assert (found.per_class["y"].count, found.per_class["y"].agreement) == (2, 0.5)
    theirs, own = 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
    wanted = np.mean(np.sum([entropy([theirs, 1 - theirs], [own, 1 - own], axis=0)], axis=(0, 2)))
    assert found.kl == pytest.approx(wanted)


def test_tokens_are_drawn_with_their_texts() -> None:
    # Whole texts agree or do not: the interval is that of 20 texts, not of 2,000 tokens.
    texts = np.repeat(np.arange(20), 100)
    teacher = np.tile([1.0, 0.0], (2000, 1))
    student = np.where((texts % 2 == 0)[:, None], teacher, teacher[:, ::-1])
    by_text, by_token = (
        of_one_label(teacher, student, ["a", "b"], texts_N=texts),
        of_one_label(teacher, student, ["a", "b"]),
    )
    assert (by_text.rows, by_token.rows, by_text.agreement, by_token.agreement) == (20, 2000, 0.5, 0.5)
    widths = [one.interval["agreement"][1] - one.interval["agreement"][0] for one in (by_text, by_token)]
    assert widths[0] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 20), rel=0.25)
    assert widths[1] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 2000), rel=0.25)


def test_vectors_are_compared_by_cosines_their_pairs_and_their_neighbours() -> None:
    teacher, student = noisy(60, 8, 0.5)
    found = of_vectors(teacher, student)

    def cosine(one: Floats, other: Floats) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    assert found.cosine == pytest.approx(np.mean([cosine(a, b) for a, b in zip(teacher, student, strict=True)]))
    pairs = [(i, j) for i in range(60) for j in range(i)]
    similarities = [[cosine(side[i], side[j]) for i, j in pairs] for side in (teacher, student)]
    assert found.similarity_spearman == pytest.approx(spearmanr(*similarities).statistic, abs=1e-5)
    overlaps = []
    for row in range(60):
        others = [other for other in range(60) if other != row]
        near = [
            set(sorted(others, key=lambda other: -cosine(query, teacher[other]))[:10])
            for query in (teacher[row], student[row])
        ]
        overlaps.append(len(near[0] & near[1]) / 10)
    assert found.neighbours_at_10 == pytest.approx(np.mean(overlaps))
    assert all(low < getattr(found, name) < high for name, (low, high) in found.interval.items())
    assert set(found.interval) == {"cosine", "similarity_spearman", "neighbours_at_10"} == set(found.figures)


def test_vectors_of_another_size_are_compared_within_their_own_space() -> None:
    teacher = noisy(50, 8, 0)[0]
    turned = np.concatenate([teacher, np.zeros((50, 4))], axis=1) @ np.linalg.qr(noisy(12, 12, 0)[0])[0]
    found = of_vectors(teacher, turned)
    assert (found.cosine, found.neighbours_at_10) == (None, 1.0)
    assert found.similarity_spearman == pytest.approx(1.0)
    same_size = of_vectors(teacher, teacher @ np.linalg.qr(noisy(8, 8, 0)[0])[0])
    assert same_size.neighbours_at_10 is not None and same_size.neighbours_at_10 < 0.5, "turned in the teacher's index"
    assert same_size.similarity_spearman == pytest.approx(1.0)


def test_copies_of_a_text_count_as_the_same_neighbours() -> None:
    draw = np.random.default_rng(0)
    teacher = np.repeat(draw.normal(size=(3, 6)), 30, axis=0)
    found = of_vectors(teacher, teacher * (1 + 1e-9 * draw.normal(size=teacher.shape)))
    assert found.neighbours_at_10 == 1.0


def test_of_many_pairs_some_are_drawn_and_the_figure_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = noisy(300, 8, 0.5)
    whole = of_vectors(teacher, student)
    monkeypatch.setattr(vectors, "PAIRS", 20_000)
    some = of_vectors(teacher, student)
    assert some.similarity_spearman != whole.similarity_spearman
    assert some.similarity_spearman == pytest.approx(whole.similarity_spearman, abs=0.02)


def test_values_keep_their_order_among_all_rows_and_within_lists() -> None:
    teacher, student = noisy(90, 1, 0.7)
    lists = np.arange(90) % 9
    found = of_values(teacher, student, lists)
    assert found.spearman == pytest.approx(spearmanr(teacher[:, 0], student[:, 0]).statistic)
    taus = [kendalltau(teacher[lists == one, 0], student[lists == one, 0]).statistic for one in range(9)]
    assert found.kendall == pytest.approx(np.mean(taus))
    assert set(found.interval) == {"spearman", "kendall"}
    assert of_values(teacher, student).kendall is None


def test_undefined_figures_are_left_out() -> None:
    flat, values = np.ones((20, 1)), np.arange(20.0)[:, None]
    assert of_values(flat, values).figures == {}
    assert of_values(values, flat, np.arange(20) // 5).figures == {"kendall": 0.0}
    assert of_vectors(np.ones((5, 3)), np.ones((5, 3))).figures.keys() == {"cosine"}
    few = of_vectors(*noisy(11, 4, 0.1))
    assert few.neighbours_at_10 is None, "all eleven rows are neighbours"
    assert Fidelity.model_validate_json(few.model_dump_json()) == few


def test_lists_are_rows_that_share_a_text() -> None:
    assert lists_of([("q", "a"), ("q", "b"), ("r", "a")]) is not None
    assert lists_of([("q", "a"), ("q", "b"), ("r", "a")]).tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert lists_of([("a", "q"), ("b", "q"), ("c", "r")]).tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert lists_of([("a", "b"), ("c", "d")]) is None
    assert lists_of([("a",), ("a",)]) is None
    assert lists_of([("q",), ("q", "b"), ("r", "a")]).tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert lists_of([]) is None


def test_a_weighted_rank_correlation_is_that_of_repeated_values() -> None:
    draw = np.random.default_rng(3)
    one, other = np.round(draw.normal(size=80), 1), np.round(draw.normal(size=80), 1)
    correlation = RankCorrelation(one, other)
    for weights in draws(80)[:5]:
        times = weights.astype(int)
        assert times.sum() == 80
        wanted = spearmanr(np.repeat(one, times), np.repeat(other, times)).statistic
        assert correlation(weights) == pytest.approx(wanted)
    assert math.isnan(correlation(np.eye(80)[0]))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, covered = np.random.default_rng(5), 0
    for _ in range(200):
        right = draw.random(150) < 0.8
        teacher = np.tile([1.0, 0.0], (150, 1))
        found = of_one_label(teacher, np.where(right[:, None], teacher, teacher[:, ::-1]), ["a", "b"])
        low, high = found.interval["agreement"]
        covered += low <= 0.8 <= high
    assert 180 <= covered <= 199


def test_draws_are_the_same_in_every_call_and_undefined_values_are_left_out() -> None:
    assert draws(7).shape == (REPLICATES, 7)
    assert (draws(7) == draws(7)).all()
    assert interval_of(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
    assert interval_of(np.array([np.nan])) is None
