"""Cutting a chosen student out of its SuperLM and saving it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workloads import artifacts
from workloads.architecture import Architecture
from workloads.artifacts import Artifact, Key
from workloads.choosing import Scored
from workloads.costs import student_cost
from workloads.craft.card import CardFacts, license_of
from workloads.craft.export import export_student
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher
from workloads.request import CompressionRequest
from workloads.storage import Storage


@dataclass(frozen=True)
class Origin:
    """What a student comes from.

    Attributes:
        stages: The finished stages behind it, by stage; at least ``corpus`` and ``superlm``.
    """

    request: CompressionRequest
    teacher: Teacher
    superlm: SuperLM
    stages: Mapping[str, Artifact]


def student_key(superlm: Artifact, architecture: Architecture) -> Key:
    """Name what decides a student."""
    return Key("student", {"superlm": superlm.fingerprint, "architecture": architecture.to_json()})


def build_student(storage: Storage, origin: Origin, chosen: Scored, builder: str, work: Path) -> Artifact:
    """Extract a student, save it as plain ``transformers`` loads it, and commit it.

    Args:
        storage: Where to.
        origin: What it comes from.
        chosen: Which it is.
        builder: Names the job and attempt.
        work: An empty local folder.

    Raises:
        OSError: There is no room for it; nothing is committed.
    """
    key = student_key(origin.stages["superlm"], chosen.architecture)
    weights = origin.superlm.extract(chosen.architecture)
    card = _card(origin, chosen)
    counted = sum(tensor.numel() for name, tensor in weights.items() if not name.startswith("projection."))
    assert counted == card.cost.params, (counted, card.cost)
    export_student(work, origin.teacher, chosen.architecture, weights, card)
    storage.upload(work, artifacts.build_folder(key, builder))
    summary = {
        "subspace": chosen.subspace,
        "heldout_loss": chosen.heldout_loss,
        "params": card.cost.params,
        "flops": card.cost.flops,
        "sequence_length": card.cost.sequence_length,
    }
    return artifacts.commit(storage, key, builder, summary)


def _card(origin: Origin, chosen: Scored) -> CardFacts:
    request, shape = origin.request, origin.teacher.shape
    corpus, superlm = origin.stages["corpus"], origin.stages["superlm"]
    name = f"{request.teacher.model.rstrip('/').rpartition('/')[2]} {chosen.architecture.describe()}"
    return CardFacts(
        name=name,
        teacher=request.teacher.model,
        corpus=tuple(request.corpus.paths) or (str(request.corpus.dataset),),
        documents=corpus.summary["sides"]["train"]["documents"],
        tokens=superlm.summary["tokens"],
        method=request.method,
        family=shape.family,
        architecture=chosen.architecture,
        cost=student_cost(shape, chosen.architecture),
        objective=_objective(origin),
        heldout_loss=chosen.heldout_loss,
        output_trained=request.objective.output is not None,
        seed=request.seed,
        pooler=shape.pooler,
        projection=origin.superlm.projects,
        teacher_license=license_of(origin.teacher.folder),
        fingerprints={stage: artifact.fingerprint for stage, artifact in origin.stages.items()},
    )


def _objective(origin: Origin) -> str:
    spec = origin.request.objective
    terms = []
    if spec.relation is not None:
        terms.append(f"{spec.relation} relations ({spec.relation_heads or origin.teacher.shape.heads} heads)")
    if spec.output is not None:
        terms.append(f"{spec.output.weight:g} x {spec.output.kind} output")
    return " + ".join(terms)
