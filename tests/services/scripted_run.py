"""A run scripted by its request's labels: it writes the documents of a real one, and succeeds, fails or dies.

Labels: ``act`` (``succeed``, ``invalid``, ``unreachable``, ``internal``, ``crash``, ``hang``, ``garbage``),
``seconds`` to sleep before, ``good_attempt`` from which on it succeeds whatever ``act`` says.
"""

import argparse
import os
import subprocess
import sys
import time

from workloads.documents.job_folder import (
    ErrorDocument,
    EventDocument,
    InfeasibleDocument,
    JobFolder,
    NearestDocument,
    ProgressDocument,
    ResultDocument,
    StepDocument,
    StudentDocument,
    now,
)
from workloads.storage.storage import Storage

ARCHITECTURE = {
    "layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "heads": 2,
    "head_width": 32,
    "source_layers": [0, 3],
}


def _success(storage: Storage, job: str, attempt: int) -> ResultDocument:
    files = f"artifacts/student/abc/builds/{job}-{attempt}"
    storage.write_bytes(f"{files}/config.json", b'{"model_type": "bert"}')
    storage.write_bytes(f"{files}/sub/{'long-name-' * 12}.bin", bytes(range(256)) * 5000)
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=ARCHITECTURE, params=1234567, flops=7654321,
        sequence_length=128, heldout_loss=0.25, files=files,
    )  # fmt: skip
    nearest = NearestDocument(
        architecture=ARCHITECTURE, subspace="tiny", params=9, flops=9, heldout_loss=1.0, misses={"max_params": 1.07}
    )
    missed = InfeasibleDocument(budget="impossible", nearest=[nearest])
    return ResultDocument(status="succeeded", students=[student], infeasible=[missed], seconds=1.5, stored_bytes=2000)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage")
    parser.add_argument("--job")
    parser.add_argument("--attempt", type=int)
    given = parser.parse_args()
    storage = Storage.open(given.storage)
    folder, attempt = JobFolder(storage, given.job), given.attempt
    labels = folder.read_request()["labels"]
    act = labels.get("act", "succeed")
    if attempt >= int(labels.get("good_attempt", "1000")):
        act = "succeed"

    sys.stdout.write(f"attempt {attempt} will {act}\n")
    folder.write_events(attempt, [EventDocument(sequence=1, time=now(), type="started", message=act)])
    storage.write_bytes(folder.path(f"pid-{os.getpid()}", attempt), b"")

    def progress(done: int, status: str) -> None:
        step = StepDocument(name="train", status=status, done=done, total=10, unit="steps", rate=2.0, seconds_left=5)
        prepare = StepDocument(name="prepare corpus", status="succeeded", reused=True)
        folder.write_progress(attempt, ProgressDocument(updated_at=now(), steps=[prepare, step], stored_bytes=1000))

    progress(1, "running")
    if act == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        time.sleep(1000)
    time.sleep(float(labels.get("seconds", "0")))
    if act == "crash":
        sys.stdout.write("about to die\n")
        sys.stdout.flush()
        os._exit(9)
    if act == "garbage":
        storage.write_bytes(folder.path("result.json", attempt), b'{"status": "splendid"}')
        return 0
    if act in {"invalid", "internal", "unreachable"}:
        code = "invalid_input" if act == "invalid" else act
        error = ErrorDocument(code=code, message=f"It is {act}.", field="corpus.paths", remedy="Give another.")
        folder.write_result(attempt, ResultDocument(status="failed", error=error))
        return 1
    progress(10, "succeeded")
    events = [
        EventDocument(sequence=n, time=now(), type=kind, message=kind) for n, kind in ((1, "started"), (2, "done"))
    ]
    folder.write_events(attempt, events)
    folder.write_result(attempt, _success(storage, given.job, attempt))
    return 0


if __name__ == "__main__":
    sys.exit(main())
