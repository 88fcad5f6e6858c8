"""Pictures of the bench: quality against size, by the product's own plot, and loss against length."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from benchmarks.quality.plan import Entry
from workloads.craft.pictures import Panel, Picture, Point, frontier_picture


def quality_picture(models: Sequence[tuple[Entry, int, float]], teacher_macs: int, teacher_score: float) -> Picture:
    """Draw how many points models lie below the teacher against their multiply-accumulates.

    Args:
        models: Each with its multiply-accumulates and its task average.
        teacher_macs: The teacher's multiply-accumulates.
        teacher_score: The teacher's task average.
    """
    drawn = tuple(
        Point(macs, teacher_score - score, f"{entry.fraction:.3g}" if entry.role == "chosen" else "", _kind(entry.role))
        for entry, macs, score in models
    )
    panel = Panel("MACs of 128 tokens", drawn, teacher=teacher_macs)
    return frontier_picture([panel], loss="points below the teacher's task average", title="Quality against size")


def loss_picture(losses: Mapping[tuple[str, str], Sequence[tuple[int, float]]]) -> Picture:
    """Draw median held-out losses against tokens.

    Args:
        losses: By sub-space and kind (``inside`` a SuperLM or ``alone``), lengths in tokens with their losses.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    spaces = list(dict.fromkeys(space for space, _ in losses))
    told = []
    for (space, kind), points in losses.items():
        tokens, values = zip(*sorted(points), strict=True)
        colour = f"C{spaces.index(space)}"
        style = "--" if kind == "inside" else "-"
        axes.plot(
            tokens, values, style, marker="o" if kind == "inside" else "s", color=colour, label=f"{space}, {kind}"
        )
        told.append(f"{space}, {kind}: {', '.join(f'{loss:.3g} at {length:,}' for length, loss in sorted(points))}.")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted({length for points in losses.values() for length, _ in points}))
    axes.set_xlabel("training tokens")
    axes.set_ylabel("held-out loss, median over shapes")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    alt = f"Median held-out loss by tokens. {' '.join(told)}"
    return Picture(_bytes(figure, "png"), _bytes(figure, "svg", Title="Loss against length", Description=alt), alt)


def _bytes(figure: Figure, kind: str, **words: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None, **words} if kind == "svg" else None)
    return buffer.getvalue()


def _kind(role: str) -> str:
    for kind in ("random choice", "random weights", "hand-made", "alone"):
        if role.startswith(kind):
            return kind
    return role
