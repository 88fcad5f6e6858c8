"""Pictures of a compression: losses of its candidates against their costs, with the chosen ones marked.

They are drawn without pyplot, which keeps global state. Colours are Okabe and Ito's; shapes and strokes carry the
same information, for print in black and white.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from workloads.answers.frontier import pareto_front

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_POLISHED = "*"
_DARK = "#222222"
_LIMIT = "#B00020"
_DIRECTIONS = ((1.0, 1.0), (1.0, -1.3), (-1.0, 1.0), (-1.0, -1.3), (0.0, 1.4))
_OFFSETS = tuple(
    (x * far, y * far) for far in (12, 24, 40, 60, 85) for x, y in _DIRECTIONS
)  # offsets of a label, in points
_RASTER = 2000  # more points than this are drawn as pixels in the SVG


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate, or a polished student, on a panel.

    Attributes:
        cost: Cost on the panel's axis, positive.
        loss: Loss on held-out text.
        label: Names of the budgets that it was chosen for; empty if it was chosen for none.
        subspace: Name of the sub-space.
        dropped: Whether it left the search early; its loss is over fewer rows, and it is not part of the front.
        polished: Whether it is a student that was distilled alone after the search; it is not part of the front.
    """

    cost: float
    loss: float
    label: str = ""
    subspace: str = ""
    dropped: bool = False
    polished: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """Limit of an infeasible budget on a panel's cost."""

    cost: float
    label: str


@dataclass(frozen=True, slots=True)
class Aside:
    """Limit of an infeasible budget on a cost without a panel; shown in words, ``cost`` after the amount."""

    cost: str
    limit: Limit
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Plot of losses against one cost.

    Attributes:
        cost: Name of the cost with its conditions, such as ``FLOPs of 128 tokens``.
        points: All candidates with a known cost; at least one.
        unit: Unit of the cost, such as ``s``, if it has one; amounts get SI prefixes.
        teacher: The teacher's cost, if known.
        limits: Limits of the infeasible budgets.
    """

    cost: str
    points: tuple[Point, ...]
    unit: str = ""
    teacher: float | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as files, and its alternative text."""

    png: bytes
    svg: bytes
    alt: str


def frontier_picture(
    panels: Sequence[Panel], *, loss: str = "held-out loss", title: str = "", asides: Sequence[Aside] = ()
) -> Picture:
    """Draw held-out losses against costs, a panel for each cost.

    The teacher is a line at its cost. It has no loss, since losses compare candidates with the teacher.

    Args:
        panels: At least one, all with the same candidates.
        loss: Name of the loss.
        title: Title of the picture.
        asides: Infeasible limits on costs without a panel.
    """
    assert panels
    assert all(panel.points for panel in panels)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(7.2 if columns == 1 else 11, 4.4 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = sorted({point.subspace for panel in panels for point in panel.points})
    drawn = []
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        drawn.append((axes, panel, _draw(axes, panel, loss, names)))
    legend = figure.legend(
        handles=_legend(panels, names), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    if words := _asides(asides):
        legend.set_title(textwrap.fill(words, 85 * columns), FontProperties(size=9))
        legend.get_title().set_color(_LIMIT)
    if title:
        figure.suptitle(title, fontsize=12)
    figure.draw_without_rendering()  # lays out, so that the labels' positions are known
    figure.set_layout_engine("none")
    for axes, panel, labels in drawn:
        _spread(figure, axes, panel, labels)
    alt = " ".join(filter(None, [_alt(panels, loss), words]))
    return Picture(_bytes(figure, "png"), _bytes(figure, "svg", Title=title or loss, Description=alt), alt)


def _draw(axes: Axes, panel: Panel, loss: str, names: Sequence[str]) -> list[Annotation]:
    for name in names:
        colour, marker = _style(names, name)
        own = [point for point in panel.points if point.subspace == name and not point.polished]
        for dropped in (True, False):
            shown = [point for point in own if point.dropped == dropped]
            axes.scatter(
                [point.cost for point in shown],
                [point.loss for point in shown],
                s=14 if dropped else 26,
                marker=marker,
                facecolors="none" if dropped else colour,
                edgecolors=colour if dropped else "white",
                linewidths=0.6 if dropped else 0.4,
                alpha=0.35 if dropped else 0.9,
                zorder=2 if dropped else 3,
                rasterized=len(shown) > _RASTER,
            )
    axes.set_xscale("log")
    front = _front(panel)
    costs = [point.cost for point in front]
    axes.step(costs, [point.loss for point in front], where="post", color=_DARK, linewidth=1.3, zorder=2.5)
    labels = []
    for point in panel.points:
        if point.polished:
            colour = _style(names, point.subspace)[0]
            axes.scatter([point.cost], [point.loss], s=60, marker=_POLISHED, color=colour, linewidths=0, zorder=4)
        if point.label:
            axes.scatter(
                [point.cost], [point.loss], s=130, facecolors="none", edgecolors=_DARK, linewidths=1.6, zorder=4
            )
            labels.append(_label(axes, point))
    if panel.teacher is not None:
        axes.axvline(panel.teacher, color=_DARK, linestyle=(0, (6, 3)), linewidth=1.2, zorder=1)
        _name_line(axes, panel.teacher, "teacher", _DARK)
    for cost in sorted({limit.cost for limit in panel.limits}):
        axes.axvline(cost, color=_LIMIT, linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=1)
        budgets = ", ".join(limit.label for limit in panel.limits if limit.cost == cost)
        _name_line(axes, cost, f"{budgets}: infeasible", _LIMIT)
    axes.set_xlabel(panel.cost)
    axes.set_ylabel(loss)
    axes.margins(x=0.08, y=0.12)
    axes.grid(which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(EngFormatter(panel.unit))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    if high / low < 100:  # one or two decades hold too few powers of ten as ticks
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    return labels


def _front(panel: Panel) -> list[Point]:
    kept = [point for point in panel.points if not point.dropped and not point.polished]
    return pareto_front(kept, lambda point: (point.cost, point.loss))


def _style(names: Sequence[str], name: str) -> tuple[str, str]:
    index = names.index(name)
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def _label(axes: Axes, point: Point) -> Annotation:
    return axes.annotate(
        point.label,
        (point.cost, point.loss),
        xytext=_OFFSETS[0],
        textcoords="offset points",
        fontsize=9,
        fontweight="bold",
        color=_DARK,
        ha="center",
        va="center",
        zorder=6,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        arrowprops={"arrowstyle": "-", "color": _DARK, "linewidth": 0.8, "shrinkB": 6},
    )


def _name_line(axes: Axes, cost: float, text: str, colour: str) -> None:
    axes.text(
        cost,
        0.98,
        text,
        transform=axes.get_xaxis_transform(),
        rotation=90,
        ha="right",
        va="top",
        fontsize=8.5,
        color=colour,
        zorder=5,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def _spread(figure: Figure, axes: Axes, panel: Panel, labels: Sequence[Annotation]) -> None:
    """Move each label to the first position inside the plot where it covers no other label and no candidate."""
    if not labels:
        return
    kept = [(point.cost, point.loss) for point in panel.points if point.label or not point.dropped]
    at = axes.transData.transform(kept)
    taken = [text.get_window_extent() for text in axes.texts if text not in labels]
    for label in labels:
        least, best = math.inf, _OFFSETS[0]
        half = Text.get_window_extent(label).width / 2 * 72 / figure.dpi
        for x, y in _OFFSETS:
            place = (x + math.copysign(half, x) if x else 0.0, y)
            label.set_position(place)
            box = Text.get_window_extent(label).padded(6)  # without its line to the student
            covered = box.count_contains(at) + 20 * sum(box.overlaps(other) for other in taken)
            covered += 20 * (not _inside(axes.bbox, box))
            if covered < least:
                least, best = covered, place
            if covered == 0:
                break
        label.set_position(best)
        taken.append(Text.get_window_extent(label))


def _inside(outer: Bbox, inner: Bbox) -> bool:
    return bool(outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)


def _legend(panels: Sequence[Panel], names: Sequence[str]) -> list[Line2D]:
    points = [point for panel in panels for point in panel.points]
    handles = []
    for name in names:
        colour, marker = _style(names, name)
        handles.append(_handle(name or "candidate", colour, marker))
    if any(point.dropped for point in points):
        handles.append(_handle("dropped early", "#888888", _MARKERS[0], hollow=True))
    if any(point.polished for point in points):
        handles.append(_handle("polished", "#888888", _POLISHED, size=9))
    if any(point.label for point in points):
        handles.append(_handle("chosen", _DARK, "o", hollow=True, size=10))
    if any(_front(panel) for panel in panels):
        handles.append(Line2D([], [], color=_DARK, linewidth=1.3, label="Pareto front"))
    return handles


def _handle(name: str, colour: str, marker: str, *, hollow: bool = False, size: float = 5.5) -> Line2D:
    fill = "none" if hollow else colour
    return Line2D([], [], linestyle="none", marker=marker, color=colour, mfc=fill, markersize=size, label=name)


def _alt(panels: Sequence[Panel], loss: str) -> str:
    points = [point for point in panels[0].points if not point.polished]
    dropped = sum(point.dropped for point in points)
    early = f", {dropped} of them dropped early" if dropped else ""
    text = [f"{loss[:1].upper()}{loss[1:]} of {len(points)} candidate{'s' * (len(points) > 1)}{early}."]
    for panel in panels:
        show, front = EngFormatter(panel.unit, places=1), _front(panel)
        text.append(f"Against {panel.cost}:")
        if front:
            first, last = front[0], front[-1]
            to = f" to {last.loss:.3g} at {show(last.cost)}" if len(front) > 1 else ""
            text.append(f"{len(front)} on the Pareto front, {first.loss:.3g} at {show(first.cost)}{to}.")
        chosen = [f"{point.label} ({point.loss:.3g} at {show(point.cost)})" for point in panel.points if point.label]
        if chosen:
            text.append(f"Chosen: {', '.join(chosen)}.")
        if panel.limits:
            text.append(f"Infeasible: {', '.join(f'{one.label} (at most {show(one.cost)})' for one in panel.limits)}.")
        if panel.teacher is not None:
            text.append(f"The teacher costs {show(panel.teacher)}.")
    return " ".join(text)


def _asides(asides: Sequence[Aside]) -> str:
    told = [
        f"{one.limit.label} (at most {EngFormatter(one.unit, places=1)(one.limit.cost)} {one.cost})" for one in asides
    ]
    return f"Infeasible, on costs that are not drawn: {', '.join(told)}." if told else ""


def _bytes(figure: Figure, kind: str, **words: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, **words} if kind == "svg" else None
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
