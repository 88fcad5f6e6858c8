"""Formats of numbers in tables and messages: plain for programs, readable for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

LEAST_DIGITS, MOST_DIGITS = 4, 10
"""Significant digits of a loss, enough to distinguish the losses of a table."""
LEAST_OVER_BEST = 2
"""Significant digits of a distance to the best."""
OVER_BEST = "over the best"
"""The column with the distances of held-out losses to the best of the table, as a ratio less 1."""

_SHOWN: dict[str, Callable[[float], str]] = {
    "task score": lambda value: f"{value:.4f}",
    "score": lambda value: f"{value:.4f}",
    "p50 ms": lambda value: f"{value:.3f}",
    "p95 ms": lambda value: f"{value:.3f}",
    "latency ms": lambda value: f"{value:.3f}",
    "predicted ms": lambda value: f"{value:.3f}",
    "prediction error": lambda value: f"{value:.1%}",
    "speed-up": lambda value: f"{value:.2f}x",
    "int8 error": lambda value: f"{value:.2%}",
}
"""Formats of floats by column, for people; other columns have four significant digits."""

Cell = str | int | float | None


def plain(value: Cell) -> str:
    """Format a value for programs: no separators, no units, all digits."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def shown(column: str, values: Sequence[Cell]) -> list[str]:
    """Format a column's values for people."""
    if column.endswith("loss"):
        return losses(values)
    if column == OVER_BEST:
        return _apart(values, LEAST_OVER_BEST, _over_best)
    return [_shown(column, value) for value in values]


def losses(values: Sequence[Cell]) -> list[str]:
    """Format losses with at least four significant digits, and with more if different losses would look equal."""
    return _apart(values, LEAST_DIGITS, lambda value, digits: f"{value:#.{digits}g}")


def _apart(values: Sequence[Cell], digits: int, text: Callable[[float, int], str]) -> list[str]:
    """Format floats with this many significant digits, and with more if different ones would look equal."""
    different = {value for value in values if isinstance(value, float)}
    while digits < MOST_DIGITS and len({text(value, digits) for value in different}) < len(different):
        digits += 1
    return [text(value, digits) if isinstance(value, float) else plain(value) for value in values]


def _over_best(value: float, digits: int) -> str:
    return f"{Decimal(f'{100 * value:.{digits}g}'):+,f}%" if value else "the best"


def amount(value: float) -> str:
    """Format an amount or a rate in a sentence for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format a duration for people, such as 1:02:03 or 0:48."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def clean(text: str) -> str:
    """Remove control characters from a server's text, since a terminal would execute them."""
    return "".join(character if character.isprintable() else " " for character in text)


def _shown(column: str, value: Cell) -> str:
    if isinstance(value, float):
        return _SHOWN[column](value) if column in _SHOWN else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else plain(value)
