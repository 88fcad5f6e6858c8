"""One thing of each kind in a service, so that requests to any route can reach something that is there."""

import json
from dataclasses import replace

from services.jobs.driver_log import DRIVER_LOG
from tests.services.ending import succeed
from tests.services.scripted_run import ARCHITECTURE
from tests.services.searched import SHAPE, finished, make_search
from workloads.documents.job_folder import JobFolder, ResultDocument, StudentDocument
from workloads.spec.evaluation import BaselineDocument, EvaluationResult, SeedScore
from workloads.spec.part import MOST_LENGTH


def make_things(service, make_request, folder):
    """Make the things; return their ids by the name of their path parameter, some of them for one verb only."""
    # A teacher that reads as much as any request may ask for.
    shape = replace(SHAPE, vocabulary=replace(SHAPE.vocabulary, positions=MOST_LENGTH))
    job = finished(service, make_request(), shape=shape)
    files = "artifacts/student/abc/builds/one"
    service.storage.write_bytes(f"{files}/config.json", b"{}")
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=ARCHITECTURE, params=1, flops=1,
        sequence_length=128, heldout_loss=0.25, files=files,
    )  # fmt: skip
    other = service.work.begin_attempt(service.submit(make_request()).id)
    service.storage.write_bytes(JobFolder(service.storage, other.id).path(DRIVER_LOG, 1), b"a line\n")
    picture = f"{files}/frontier.png"
    service.storage.write_bytes(picture, b"a picture")
    scores = make_search(service.storage, shape=shape)
    artifacts = {"scores": [scores.fingerprint]}
    result = ResultDocument(
        status="succeeded", students=[student], artifacts=artifacts, pictures={"frontier.png": picture}
    )
    succeed(service.work, other.id, result)
    selection = service.select(job, {"budgets": [{"name": "any", "max_params": 10**9}]})
    asked = {"common": make_request(), "compressions": [{}, {"seed": 2}]}
    batch = service.submit_batch(asked)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"row {n}", "label": n % 2}) + "\n" for n in range(8)))
    task = {"kind": "single", "train": [str(rows)], "test": [str(rows)], "text_columns": ["text"], "metric": "accuracy"}
    evaluation = {"model": {"compression": other.id, "student": "stu_1"}, "task": task}
    evaluated = service.work.begin_attempt(service.evaluate(evaluation | {"keep_model": True}).id)
    service.storage.write_bytes(JobFolder(service.storage, evaluated.id).path(DRIVER_LOG, 1), b"a line\n")
    scores_of_seed = SeedScore(
        seed=0, score=0.5, epoch=1, learning_rate=1e-4, validation_score=0.5, scores={}, device="cpu", seconds=1.0,
        files=files,
    )  # fmt: skip
    found = EvaluationResult(
        task="task", metric="accuracy", mean=0.5, seeds=[scores_of_seed], scored_on="test", rows=8, train_rows=7,
        baseline=BaselineDocument(answer=1, score=0.5, scores={}), set_aside_rows=1, rows_in_training=0, params=1,
        fingerprint="f", seconds=1.0,
    )  # fmt: skip
    succeed(service.work, evaluated.id, ResultDocument(status="succeeded", evaluation=found))
    return {
        "job_id": other.id,
        "student_id": "stu_1",
        "path": "config.json",
        "name": "frontier.png",
        "selection_id": selection.id,
        "plan_id": service.plan(make_request()).id,
        "batch_id": batch.id,
        "evaluation_id": evaluated.id,
        "model_id": f"{evaluated.id}-seed-0",
        "job_id to delete": service.cancel(service.submit(make_request()).id).id,
        "plan_id to delete": service.cancel(service.plan(make_request()).id).id,
        "batch_id to delete": service.cancel_batch(service.submit_batch(asked).id).id,
        "evaluation_id to delete": service.cancel(service.evaluate(evaluation).id).id,
        "evaluation_id to cancel": service.evaluate(evaluation).id,
        "evaluation_id to resume": service.cancel(service.evaluate(evaluation).id).id,
        "job_id to cancel": service.submit(make_request()).id,
        "job_id to resume": service.cancel(service.submit(make_request()).id).id,
    }
