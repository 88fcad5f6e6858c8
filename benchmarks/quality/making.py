"""Running a piece in this process: from its inputs to a row."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import search, tasks
from benchmarks.quality.distil import Distillation, Model, Report
from benchmarks.quality.pieces import Piece
from benchmarks.quality.places import Places
from benchmarks.quality.rows import Row, Rows, Values
from benchmarks.quality.scene import Scene
from benchmarks.record import machine
from workloads.craft.export import build_student
from workloads.craft.tasks.evaluating import TaskModel
from workloads.shapes.architecture import Architecture

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pyarrow")
Result = tuple[dict[str, Any], Values | None]


class Maker:
    """Maker of rows: it runs pieces, and keeps teacher and text open for the next piece.

    Args:
        places: Folders of this machine.
        profile: Name of the profile, for the rows.
    """

    def __init__(self, places: Places, profile: str) -> None:
        self._places, self._profile = places, profile
        self._scenes: dict[str, Scene] = {}
        self._models: tuple[str, dict[str, Model]] | None = None

    def make(self, piece: Piece, rows: Rows, report: Report) -> Row:
        """Run a piece.

        Args:
            piece: The piece; the rows of the pieces that it needs exist.
            rows: Existing rows, those of the needed pieces included.
            report: Callback with the progress.

        Raises:
            ValueError: Teacher, corpus or labels here are not those that the rows were made with.
        """
        wall, cpu = time.monotonic(), time.process_time()
        result, values = self._make(piece, rows, report)
        return Row(
            fingerprint=piece.fingerprint,
            kind=piece.kind,
            name=piece.name,
            profile=self._profile,
            inputs=piece.inputs,
            result=result,
            values=values,
            cpu_seconds=round(time.process_time() - cpu, 3),
            wall_seconds=round(time.monotonic() - wall, 3),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=commit(),
            machine=machine(),
            libraries=dict(_versions()),
        )

    def _make(self, piece: Piece, rows: Rows, report: Report) -> Result:
        match piece.kind:
            case "scene":
                return Scene(piece.inputs, self._places).facts(), None
            case "labels":
                labels = tasks.labels_of(piece.inputs["task"], self._places.data)
                return {"rows": len(labels)}, labels
            case "distil":
                return self._distillation(piece, rows, report).facts(), None
            case "search":
                (distil,) = piece.needs
                work = self._distillation(distil, rows, report)
                return search.search(
                    work.scene, self._trained(distil, rows, report), [*work.spaces.values()], report
                ), None
            case "inside":
                (distil,) = piece.needs
                subnets = [(name, Architecture.from_json(one)) for name, one in piece.inputs["subnets"]]
                scene = self._scene(distil.needs[0], rows)
                return {"losses": search.inside(scene, self._trained(distil, rows, report), subnets, report)}, None
            case "task" | "untuned":
                return self._on_task(piece, rows, report)

    def _on_task(self, piece: Piece, rows: Rows, report: Report) -> Result:
        distil, labels = piece.needs
        inputs, scene = piece.inputs, self._scene(distil.needs[0], rows)
        self._check_labels(labels, rows)
        request = tasks.request_of(inputs["task"], self._places.data, inputs["tuning"])
        superlm = self._trained(distil, rows, report)[inputs["member"]].superlm.cpu()
        architecture = Architecture.from_json(inputs["architecture"])
        module = build_student(scene.teacher, architecture, superlm.extract(architecture))
        model = TaskModel(module, scene.teacher.tokenizer)
        if piece.kind == "untuned":
            return {}, tasks.similarities(model, request, scene.device)
        return tasks.tune(model, request, inputs["seed"], scene.device, report)

    def _distillation(self, piece: Piece, rows: Rows, report: Report) -> Distillation:
        return Distillation(self._scene(piece.needs[0], rows), piece, report)

    def _trained(self, piece: Piece, rows: Rows, report: Report) -> Mapping[str, Model]:
        """Return the models of a distillation; where their files are missing they are trained again."""
        if self._models is None or self._models[0] != piece.fingerprint:
            self._models = None  # free the old ones first
            self._models = (piece.fingerprint, self._distillation(piece, rows, report).models())
        return self._models[1]

    def _scene(self, piece: Piece, rows: Rows) -> Scene:
        if piece.fingerprint not in self._scenes:
            scene = Scene(piece.inputs, self._places)
            known, here = rows[piece.fingerprint].result, scene.facts()
            odd = [name for name in here if here[name] != known[name]]
            if odd:
                raise ValueError(
                    f"The rows were made with another scene than this machine has: {', '.join(odd)} differ."
                )
            self._scenes = {piece.fingerprint: scene}
        return self._scenes[piece.fingerprint]

    def _check_labels(self, piece: Piece, rows: Rows) -> None:
        here, there = tasks.labels_of(piece.inputs["task"], self._places.data), rows[piece.fingerprint].values
        if there is None or not np.array_equal(here, there):
            raise ValueError(
                f"The validation rows of {piece.inputs['task']} are not those that the rows were made with."
            )


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, importlib.metadata.version(name)) for name in _LIBRARIES)


@functools.cache
def commit() -> str:
    """The commit of the code, with ``+`` if it has changed since, results aside; ``unknown`` outside a repository."""

    def git(*words: str) -> str:
        found = subprocess.run(("git", *words), cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)benchmarks/results") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
