"""Record of a measure: a JSON file in ``benchmarks/results/`` with the machine, the date and the versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("torch", "transformers", "tokenizers", "ray", "pyarrow", "numpy")


def record(
    name: str,
    value: float,
    unit: str,
    bar: float | str | None,
    spread: Sequence[float] | str | None,
    command: str,
    **extra: Any,
) -> Path:
    """Write ``benchmarks/results/<name>.json`` and return its path.

    Args:
        name: Name of the measure and of its file.
        value: The measured value.
        unit: Unit of the value, such as ``ratio`` or ``s``.
        bar: The bound that it has to meet, such as ``1.2`` or ``"at most 1.2"``; None for no bound.
        spread: The single values, or their range.
        command: Command that measures it again, from the repository's root.
        extra: JSON-like details that explain the value.
    """
    document = {
        "name": name,
        "value": value,
        "unit": unit,
        "bar": bar,
        "spread": spread if spread is None or isinstance(spread, str) else list(spread),
        "command": command,
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "libraries": {library: importlib.metadata.version(library) for library in _LIBRARIES},
        **extra,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
