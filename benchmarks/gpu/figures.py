"""The figures of a run: one JSON file, written anew after each of them, so that a killed run leaves those before."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.kit import Kit, hash_of_code
from benchmarks.quality.making import commit
from benchmarks.record import machine

FILE = "figures.json"
_LIBRARIES = ("torch", "transformers", "numpy")


class Figures:
    """Figures of a run, by part.

    Args:
        out: Folder of the file.
        kit: The kit that is run.
        device: The device.
    """

    def __init__(self, out: Path, kit: Kit, device: torch.device) -> None:
        self._path = out / FILE
        self.card = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        self._found: dict[str, Any] = {
            "card": self.card,
            "machine": machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": kit.commit_here(commit()),
            "code": hash_of_code(),
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
            "profile": kit.manifest.profile,
        }
        out.mkdir(parents=True, exist_ok=True)
        self._write()

    def note(self, part: str, value: Any) -> None:
        """Set a figure that is not one of several."""
        self._found[part] = value
        self._write()

    def add(self, part: str, value: Any) -> None:
        """Add a figure to those of a part."""
        self._found.setdefault(part, []).append(value)
        self._write()

    def of(self, part: str) -> list[Any]:
        """Return the figures of a part."""
        return list(self._found.get(part, []))

    def _write(self) -> None:
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(self._found, indent=1) + "\n")
        beside.replace(self._path)
