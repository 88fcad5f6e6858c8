"""Key of a student's folder. Light to import, since the service looks for existing students."""

from __future__ import annotations

from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import LatencyTarget
from workloads.spec.search import ExportSpec
from workloads.storage.artifacts import Artifact, Key

FILES_VERSION = 2
"""Version of what a student's folder holds; 2 has :mod:`workloads.answers.heldout_record`."""


def student_key(
    scores: Artifact,
    superlm: Artifact,
    architecture: Architecture,
    export: ExportSpec,
    latency: tuple[LatencyTarget, str] | None = None,
    fidelity_rows: int | None = None,
) -> Key:
    """Make the key of a student's folder.

    Args:
        scores: The search that chose it. Its card shows the search's losses and candidates, so another search over
            the same weights saves a student of its own.
        superlm: Source of its weights.
        architecture: Shape of the student.
        export: Settings of the files saved beside the weights.
        latency: Target and device of the latency on its card.
        fidelity_rows: Most rows that its fidelity is measured on; None if its teacher has no output to compare.
    """
    inputs = {
        "files": FILES_VERSION,
        "scores": scores.fingerprint,
        "superlm": superlm.fingerprint,
        "architecture": architecture.to_json(),
    }
    if export.onnx:
        inputs["export"] = export.model_dump(mode="json")
    if latency is not None:
        target, device = latency
        inputs["latency"] = {"target": target.model_dump(mode="json"), "device": device}
    if fidelity_rows is not None:
        inputs["fidelity_rows"] = fidelity_rows
    return Key("student", inputs)
