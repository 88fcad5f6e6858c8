"""What a student's folder is found by. Light to import: the service looks for students that are there already."""

from __future__ import annotations

from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import LatencyTarget
from workloads.spec.search import ExportSpec
from workloads.storage.artifacts import Artifact, Key


def student_key(
    scores: Artifact,
    superlm: Artifact,
    architecture: Architecture,
    export: ExportSpec,
    latency: tuple[LatencyTarget, str] | None = None,
) -> Key:
    """Name what decides a student's folder.

    Args:
        scores: The search that chose it: its card tells its loss there and shows it among the other candidates, so
            that another search over the same weights saves a student of its own.
        superlm: What its weights are cut from.
        architecture: Its shape.
        export: What lies beside the weights.
        latency: The target and the device that its card tells of.
    """
    inputs = {
        "scores": scores.fingerprint,
        "superlm": superlm.fingerprint,
        "architecture": architecture.to_json(),
    }
    if export.onnx:
        inputs["export"] = export.model_dump(mode="json")
    if latency is not None:
        target, device = latency
        inputs["latency"] = {"target": target.model_dump(mode="json"), "device": device}
    return Key("student", inputs)
