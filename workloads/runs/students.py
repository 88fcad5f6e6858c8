"""Students: extracting a chosen student from its SuperLM, and saving it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from workloads.answers.choosing import Scored
from workloads.answers.exports import QuantisationReport
from workloads.answers.heldout_record import HeldoutRecord, RelationLayers, TeacherRecord, TextRecord
from workloads.answers.latency import LatencyMeasure
from workloads.answers.scores_table import ScoredRow
from workloads.craft.blocks import Blocks
from workloads.craft.card import CardFacts, license_of, render
from workloads.craft.export import export_student, library_versions
from workloads.craft.fidelity.probe import Probe
from workloads.craft.scoring import heldout_batches
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.whole import build_whole
from workloads.runs.attempt.run import Run
from workloads.runs.drawing import PICTURE, draw_student
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.shapes.parameters import LEARNED_MAPS, place_of
from workloads.spec.request import CompressionRequest
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

CARD_FILE = "README.md"
QUANTISATION_ROWS = 64
"""Most held-out rows for the comparison of an int8 file with its float32 one."""


@dataclass(frozen=True)
class Origin:
    """Sources of a student.

    Attributes:
        stages: Its finished source stages, by stage; at least ``corpus`` and ``superlm``.
        rows: The scores table, with the student's row.
        probe: Rows to compare the student with its teacher on; None if that has no output to compare.
    """

    request: CompressionRequest
    teacher: Teacher
    superlm: SuperLM
    stages: Mapping[str, Artifact]
    rows: Sequence[ScoredRow]
    probe: Probe | None = None

    @property
    def polished(self) -> bool:
        """Whether the student was trained alone after the search."""
        return self.stages["superlm"].stage == "polished"


def build_student(
    run: Run,
    origin: Origin,
    chosen: Scored,
    key: Key,
    work: Path,
    measure: Callable[[str], LatencyMeasure] | None = None,
) -> Artifact:
    """Extract a student, save it for plain ``transformers``, export it, measure it, and commit it.

    Args:
        run: Names the storage and the builder.
        origin: The student's sources.
        chosen: The chosen candidate.
        key: The student's :func:`workloads.answers.student_key.student_key`.
        work: An empty local folder.
        measure: Called with the student's folder in the storage; gives the latency for the card.

    Raises:
        InputError: The latency's target cannot be measured here; nothing is committed.
        OnnxMismatch: ONNX Runtime and PyTorch differ; nothing is committed.
        OSError: The student cannot be written; nothing is committed.
    """
    storage, folder = run.storage, artifacts.build_folder(key, run.builder)
    weights = origin.superlm.extract(chosen.architecture)
    cost = student_cost(origin.teacher.shape, chosen.architecture)
    counted = sum(tensor.numel() for name, tensor in weights.items() if place_of(name).part not in LEARNED_MAPS)
    assert counted == cost.params, (counted, cost)
    work.mkdir(parents=True, exist_ok=True)
    exports, quantised = _export(storage, origin, chosen.architecture, weights, work)
    picture = draw_student(origin.teacher.shape, origin.rows, chosen, polished=origin.polished)
    (work / PICTURE).write_bytes(picture.png)
    card = _card(origin, chosen, quantised, picture.alt)
    export_student(work, origin.teacher, chosen.architecture, weights, card)
    _record(origin, chosen).write(work)
    if origin.probe is not None:  # measured as exported
        card = replace(card, fidelity=origin.probe.of_saved(open_teacher(work, origin.teacher.shape.kind)))
        (work / CARD_FILE).write_text(render(card), encoding="utf-8")
    storage.upload(work, folder)
    if measure is not None:  # measured as exported; the card is written last
        card = replace(card, latency=measure(folder))
        storage.write_bytes(f"{folder}/{CARD_FILE}", render(card).encode())
    summary = {
        "subspace": chosen.subspace,
        "heldout_loss": chosen.heldout_loss,
        "params": cost.params,
        "flops": cost.flops,
        "sequence_length": cost.sequence_length,
        "exports": exports,
        **({} if card.fidelity is None else {"fidelity": card.fidelity.model_dump(mode="json")}),
    }
    return artifacts.commit(storage, key, run.builder, summary)


def _export(
    storage: Storage, origin: Origin, architecture: Architecture, weights: dict[str, Tensor], work: Path
) -> tuple[dict[str, Any], QuantisationReport | None]:
    """Write the ONNX files that the request asks for; return what the summary says of them, and the int8 report."""
    export = origin.request.export
    if not export.onnx:
        return {}, None
    from workloads.craft import onnx_export  # of ONNX Runtime, which most runs do not need

    model = build_whole(origin.teacher, architecture, weights)
    has_token_types = "token_type_ids" in origin.teacher.tokenizer.model_input_names
    onnx_export.export_onnx(model, work, has_token_types=has_token_types)
    exports: dict[str, Any] = {"onnx": onnx_export.FILE}
    if not export.int8:
        return exports, None
    onnx_export.quantise_onnx(work)
    blocks = Blocks.open(storage, origin.stages["corpus"], "heldout")
    rows = blocks.read(range(min(QUANTISATION_ROWS, blocks.rows)))
    report = onnx_export.measure_quantisation(work, heldout_batches(rows, origin.request.training.batch_size))
    return exports | {"int8": onnx_export.INT8_FILE, "int8_report": report.model_dump(mode="json")}, report


def _record(origin: Origin, chosen: Scored) -> HeldoutRecord:
    """Record how the student's held-out loss was measured: by the search, or after the polish."""
    request, teacher, corpus = origin.request, origin.teacher, origin.stages["corpus"]
    spec, scored = request.objective, _scored_rows(origin, chosen)
    all_rows = max([scored, *(row.rows for row in origin.rows if row.rows is not None)])
    heads = None if spec.relation is None else spec.relation_heads or teacher.shape.last_heads
    layers = RelationLayers(teacher=teacher.shape.layers, student=len(chosen.architecture.layers))
    return HeldoutRecord(
        heldout_loss=chosen.heldout_loss,
        spread=None if origin.polished else chosen.spread or None,
        polished=origin.polished,
        objective=spec.model_copy(update={"relation_heads": heads}),
        relation_layers=None if spec.relation is None else layers,
        teacher=TeacherRecord(
            model=request.teacher.model,
            revision=request.teacher.revision,
            fingerprint=teacher.fingerprint,
            kind=teacher.shape.kind,
            embedding_size=request.teacher.embedding_size,
        ),
        text=TextRecord(
            corpus=corpus.fingerprint,
            rows=scored,
            counted_rows=scored if origin.polished else all_rows,
            sequence_length=corpus.summary["sequence_length"],
            layout=corpus.summary["layout"],
            documents=request.corpus.documents,
            text_column=request.corpus.text_column,
            text_columns=None if request.corpus.text_columns is None else tuple(request.corpus.text_columns),
        ),
        head_order=origin.stages["superlm"].summary["head_order"],
    )


def _scored_rows(origin: Origin, chosen: Scored) -> int:
    """Return how many held-out rows the student's loss is the mean of."""
    of_search = {(row.scored.subspace, row.scored.architecture): row.rows for row in origin.rows}
    rows = None if origin.polished else of_search[chosen.subspace, chosen.architecture]
    if rows is not None:
        return rows
    heldout: int = origin.stages["corpus"].summary["sides"]["heldout"]["rows"]
    return min(origin.request.heldout_rows, heldout)


def _card(origin: Origin, chosen: Scored, quantised: QuantisationReport | None, alt: str) -> CardFacts:
    request, shape = origin.request, origin.teacher.shape
    corpus, superlm = origin.stages["corpus"], origin.stages["superlm"]
    polished = request.polish.tokens if request.polish is not None and origin.polished else None
    name = f"{request.teacher.model.rstrip('/').rpartition('/')[2]} {chosen.architecture.describe()}"
    return CardFacts(
        name=name,
        teacher=request.teacher.model,
        corpus=tuple(request.corpus.paths) or (str(request.corpus.dataset),),
        documents=corpus.summary["sides"]["train"]["documents"],
        tokens=superlm.summary["tokens"] - (polished or 0),
        method=request.method,
        family=shape.vocabulary.family,
        architecture=chosen.architecture,
        cost=student_cost(shape, chosen.architecture),
        objective=_objective(origin),
        heldout_loss=chosen.heldout_loss,
        output_trained=request.objective.output is not None or shape.head is not None,
        seed=request.seed,
        pooler=shape.vocabulary.pooler,
        projection=origin.superlm.projects,
        teacher_license=license_of(origin.teacher.folder),
        polish_tokens=polished,
        picture=PICTURE,
        picture_alt=alt,
        onnx=origin.request.export.onnx,
        head=shape.head,
        int8=quantised,
        tried_with=library_versions(),
        fingerprints={stage: artifact.fingerprint for stage, artifact in origin.stages.items()},
    )


def _objective(origin: Origin) -> str:
    spec = origin.request.objective
    terms = []
    if spec.relation is not None:
        terms.append(f"{spec.relation} relations ({spec.relation_heads or origin.teacher.shape.last_heads} heads)")
    if spec.output is not None:
        terms.append(f"{spec.output.weight:g} x {spec.output.kind} output")
    if spec.logits is not None:
        terms.append(f"{spec.logits.weight:g} x logits (temperature {spec.logits.temperature:g})")
    if spec.embedding is not None:
        one = spec.embedding
        terms.append(
            f"{one.weight:g} x distance of vectors + {one.similarity_weight:g} x similarities of {one.similarity_rows} "
            f"texts (temperature {one.similarity_temperature:g})"
        )
    return " + ".join(terms)
