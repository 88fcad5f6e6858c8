"""A finished compression without training: real artefacts in a storage, with losses from a formula."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.jobs.records import Job
from services.service import Service
from tests.services.ending import succeed
from workloads.answers.latency import LatencySample, LatencySamples
from workloads.answers.student_key import student_key
from workloads.answers.trained import load_trained
from workloads.documents.job_folder import ResultDocument, StudentDocument
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import LatencyTarget
from workloads.spec.search import ExportSpec
from workloads.storage.artifacts import Artifact, Key, build_folder, commit
from workloads.storage.storage import Storage

SHAPE = TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2, 0, True))
SPACES = relative_spaces(SHAPE, 3)


def loss_of(architecture: Architecture) -> float:
    """Loss of a candidate: it falls with the multiply-accumulates."""
    return 1e6 / student_cost(SHAPE, architecture).flops


def make_search(
    storage: Storage,
    aim: str = "frontier",
    dropped: Sequence[Architecture] = (),
    shape: TeacherShape = SHAPE,
    spaces: Sequence[ProductSpace] = tuple(SPACES),
    agreement: Callable[[Architecture], float] | None = None,
) -> Artifact:
    """Commit a teacher, a corpus, SuperLMs and the scores of all candidates, some of them dropped early."""
    builder, teacher = "cmp_x-1", f"{shape.layers} x {shape.hidden_size}"
    summary = {"model": "m", "fingerprint": teacher, "shape": shape.to_json()}
    commit(storage, Key("teacher", {"files": teacher}), builder, summary)
    corpus = commit(storage, Key("corpus", {"text": "c"}), builder, {})
    superlms = {space.name: commit(storage, Key("superlm", {"space": space.name}), builder, {}) for space in spaces}
    key = Key(
        "scores",
        {
            "teacher": teacher,
            "corpus": corpus.fingerprint,
            "superlms": {name: artifact.fingerprint for name, artifact in superlms.items()},
            "spaces": {space.name: space.to_json() for space in spaces},
        },
    )
    rows = [(space.name, one) for space in spaces for one in space]
    table = pa.table(
        {
            "subspace": [name for name, _ in rows],
            "architecture": [json.dumps(one.to_json()) for _, one in rows],
            "heldout_loss": [loss_of(one) for _, one in rows],
            "spread": [0.0] * len(rows),
            "rows": [64] * len(rows),
            "rung": [0] * len(rows),
            "dropped_by": pa.array(["the rule" if one in dropped else None for _, one in rows], pa.string()),
            **(
                {} if agreement is None else {"agreement": [agreement(one) for _, one in rows], "kl": [0.1] * len(rows)}
            ),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    storage.write_bytes(f"{build_folder(key, builder)}/scores.parquet", sink.getvalue())
    return commit(storage, key, builder, {"candidates": len(rows), "aim": aim})


def make_samples(storage: Storage, target: LatencyTarget, measured: dict[Architecture, tuple[float, bool]]) -> Artifact:
    """Commit candidates' latencies on a target in milliseconds, p95 being double, and whether the repeats agreed."""
    samples = [
        LatencySample(architecture=one.to_json(), p50_ms=time, p95_ms=2 * time, agrees=agrees)
        for one, (time, agrees) in measured.items()
    ]
    document = LatencySamples(target=target, samples=samples, device="a CPU", versions={}, measured_at="now")
    key = Key("latency-samples", {"target": target.model_dump(mode="json")})
    return commit(storage, key, "cmp_x-1", document.model_dump(mode="json"))


def make_task_scores(storage: Storage, scores: dict[tuple[str, Architecture], float]) -> Artifact:
    """Commit scores of candidates on a proxy task."""
    table = pa.table(
        {
            "subspace": [name for name, _ in scores],
            "architecture": [json.dumps(one.to_json()) for _, one in scores],
            "task_score": list(scores.values()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    key = Key("task-scores", {"candidates": [one.describe() for _, one in scores]})
    storage.write_bytes(f"{build_folder(key, 'cmp_x-1')}/task_scores.parquet", sink.getvalue())
    return commit(storage, key, "cmp_x-1", {})


def make_student(
    storage: Storage, scores: str, subspace: str, architecture: Architecture, fidelity: dict[str, Any] | None = None
) -> Artifact:
    """Commit the files of a student of a search."""
    trained = load_trained(storage, scores)
    rows = None if fidelity is None else 2000
    key = student_key(trained.scores, trained.superlms[subspace], architecture, ExportSpec(), fidelity_rows=rows)
    storage.write_bytes(f"{build_folder(key, 'cmp_x-1')}/config.json", b"{}")
    return commit(storage, key, "cmp_x-1", {"exports": {}} | ({} if fidelity is None else {"fidelity": fidelity}))


def finished(
    service: Service,
    request: dict[str, Any],
    *,
    made: Sequence[Artifact] = (),
    students: Sequence[StudentDocument] = (),
    **search: Any,
) -> Job:
    """A succeeded compression in the service's database, with the search's artefacts in its storage."""
    scores = make_search(service.storage, **search)
    job = service.work.begin_attempt(service.submit(request).id)
    artifacts = {"scores": [scores.fingerprint], **{one.stage: [one.fingerprint] for one in made}}
    result = ResultDocument(status="succeeded", artifacts=artifacts, students=list(students), seconds=90.0)
    return succeed(service.work, job.id, result)
