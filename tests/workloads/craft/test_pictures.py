from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from PIL import Image

from workloads.craft import pictures
from workloads.craft.pictures import Aside, Limit, Panel, Picture, Point, frontier_picture

POINTS = (
    Point(1e8, 0.8, "edge", "tiny"),
    Point(1.5e8, 0.9, subspace="tiny"),
    Point(3e8, 0.5, "laptop, server", "small"),
    Point(3.1e8, 0.52, "kiosk", "small"),
    Point(9e8, 0.3, subspace="base"),
    Point(8e8, 0.2, subspace="base", dropped=True),
)
FLOPS = Panel("FLOPs of 128 tokens", POINTS, teacher=5e9, limits=(Limit(2e7, "watch"), Limit(2e7, "ring")))
LATENCY = Panel("latency on pi, p50", tuple(replace(point, cost=point.cost / 1e10) for point in POINTS), unit="s")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, as they are then."""
    figures: list[Figure] = []
    save = pictures._bytes

    def keep(figure: Figure, kind: str, **words: str) -> bytes:
        if figure not in figures:
            figures.append(figure)
        return save(figure, kind, **words)

    monkeypatch.setattr(pictures, "_bytes", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_it_gives_a_png_and_an_svg_of_each_number_of_panels() -> None:
    sizes = []
    for panels in ([FLOPS], [FLOPS, LATENCY], [FLOPS, LATENCY, LATENCY]):
        picture = frontier_picture(panels, title="MiniLM")
        with Image.open(io.BytesIO(picture.png)) as image:
            assert image.format == "PNG"
            sizes.append(image.size)
        assert picture.svg.startswith(b"<?xml")
        assert b"MiniLM" in picture.svg
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert sizes[0][1] == sizes[1][1] < sizes[2][1]


def test_students_infeasible_budgets_and_the_teacher_are_named(drawn: list[Figure]) -> None:
    frontier_picture([FLOPS])
    assert texts(drawn[0]) == ["edge", "laptop, server", "kiosk", "teacher", "watch, ring: infeasible"]
    legend = drawn[0].legends[0]
    names = ["base", "small", "tiny", "dropped early", "chosen", "Pareto front"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_the_front_is_a_line_of_steps_without_dropped_and_beaten_candidates(drawn: list[Figure]) -> None:
    frontier_picture([FLOPS])
    front = next(line for line in drawn[0].axes[0].lines if line.get_drawstyle() == "steps-post")
    assert np.asarray(front.get_xydata()).tolist() == [[1e8, 0.8], [3e8, 0.5], [9e8, 0.3]]


def test_the_teacher_and_limits_are_lines_told_apart_by_stroke(drawn: list[Figure]) -> None:
    frontier_picture([FLOPS])
    lines = [line for line in drawn[0].axes[0].lines if line.get_drawstyle() != "steps-post"]
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[5e9, 5e9], [2e7, 2e7]]
    strokes = {str(line._dash_pattern) for line in drawn[0].axes[0].lines}  # type: ignore[attr-defined]
    assert len(strokes) == 3


def test_sub_spaces_have_shapes_of_their_own(drawn: list[Figure]) -> None:
    frontier_picture([FLOPS])
    handles = drawn[0].legends[0].legend_handles[:3]
    assert len({handle.get_marker() for handle in handles if isinstance(handle, Line2D)}) == 3


def test_labels_stay_inside_and_cover_neither_each_other_nor_a_candidate(drawn: list[Figure]) -> None:
    crowd = tuple(
        Point(1e8 * 1.02**index, 1 - 0.02 * index, f"budget {index}" * (index % 8 == 0)) for index in range(40)
    )
    for points in (POINTS, crowd):
        drawn.clear()
        frontier_picture([Panel("FLOPs", points)])
        axes = drawn[0].axes[0]
        drawn[0].set_dpi(100)  # saving used another one
        drawn[0].draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts if isinstance(text, Annotation)]
        assert len(boxes) == sum(bool(point.label) for point in points)
        at = axes.transData.transform([(point.cost, point.loss) for point in points])
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:index])
            assert box.count_contains(at) == 0
            assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1


def test_dropped_candidates_are_faint_and_hollow(drawn: list[Figure]) -> None:
    def looks(point: Point) -> tuple[float, int]:
        drawn.clear()
        frontier_picture([Panel("FLOPs", (point,))])
        shown = next(part for part in drawn[0].axes[0].collections if len(np.asarray(part.get_offsets())))
        return float(shown.get_alpha()), len(np.asarray(shown.get_facecolor()))

    assert looks(Point(1, 0.5)) == (0.9, 1)
    assert looks(Point(1, 0.5, dropped=True)) == (0.35, 0)


def test_the_words_say_what_the_picture_shows() -> None:
    alt = frontier_picture([FLOPS, LATENCY], loss="held-out loss (kl relations)").alt
    assert alt.startswith("Held-out loss (kl relations) of 6 candidates, 1 of them dropped early.")
    for part in (
        "Against FLOPs of 128 tokens: 3 on the Pareto front, 0.8 at 100.0 M to 0.3 at 900.0 M.",
        "Chosen: edge (0.8 at 100.0 M), laptop, server (0.5 at 300.0 M), kiosk (0.52 at 310.0 M).",
        "Infeasible: watch (at most 20.0 M), ring (at most 20.0 M).",
        "The teacher costs 5.0 G.",
        "Against latency on pi, p50: 3 on the Pareto front, 0.8 at 10.0 ms to 0.3 at 90.0 ms.",
    ):
        assert part in alt


def test_what_has_no_panel_is_told_in_the_picture_and_in_its_words(drawn: list[Figure]) -> None:
    asides = [Aside("of weights in float32", Limit(2e6, "chip"), "B"), Aside("FLOPs of 64 tokens", Limit(3e7, "ring"))]
    limits = "chip (at most 2.0 MB of weights in float32), ring (at most 30.0 M FLOPs of 64 tokens)."
    told = f"Infeasible, on costs that are not drawn: {limits}"
    picture = frontier_picture([FLOPS, LATENCY], asides=asides)
    assert told in picture.alt
    assert told in drawn[0].legends[0].get_title().get_text().replace("\n", " ")
    assert "not drawn" not in frontier_picture([FLOPS]).alt


def test_polished_students_are_neither_candidates_nor_on_the_front(drawn: list[Figure]) -> None:
    polished = Point(3e8, 0.1, "laptop (polished)", "small", polished=True)
    panel = replace(FLOPS, points=(*POINTS, polished))
    alt = frontier_picture([panel]).alt
    assert "of 6 candidates" in alt and "3 on the Pareto front, 0.8 at 100.0 M to 0.3 at 900.0 M." in alt
    assert "laptop (polished) (0.1 at 300.0 M)" in alt
    assert "polished" in [text.get_text() for text in drawn[0].legends[0].get_texts()]
    stars = [part for part in drawn[0].axes[0].collections if np.asarray(part.get_offsets()).tolist() == [[3e8, 0.1]]]
    assert len(stars) == 2, "the star and the ring around it"


@pytest.mark.parametrize(
    "points",
    [POINTS[:1], POINTS[-1:], (Point(1, 0.5), Point(1, 0.5))],
    ids=["one", "all-dropped", "all-alike"],
)
def test_few_candidates_are_drawn_too(points: Sequence[Point]) -> None:
    picture: Picture = frontier_picture([Panel("FLOPs", tuple(points))])
    assert picture.png
    assert picture.svg


def test_drawing_needs_no_pyplot_and_no_display() -> None:
    code = (
        "import sys; from workloads.craft.pictures import *; frontier_picture([Panel('FLOPs', (Point(1.0, 2.0),))]); "
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"MPLBACKEND": "TkAgg"})
