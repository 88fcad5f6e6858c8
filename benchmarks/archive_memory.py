"""Growth of the service's memory while it streams a large student.

    python -m benchmarks.archive_memory [--gigabytes 2]

A student with a weights file of 2 GB is added to a finished job of a real service, and its archive is read to the end.
The resident memory of the service's process is sampled every 20 ms.
"""

from __future__ import annotations

import argparse
import threading
import time

import httpx

from benchmarks.record import record
from benchmarks.service_scene import Served, demo_request, serving
from services.jobs.database import open_database
from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.work import WorkStore
from services.service import DATABASE_FILE
from workloads.documents.job_folder import ResultDocument, StudentDocument

BAR_MB = 64
_FOLDER = "artifacts/student/large/builds/one"


def _finished(served: Served, size: int) -> str:
    """Make a finished job with a student of ``size`` bytes of weights."""
    job_id = served.client.submit(demo_request(1_000_000)).id
    folder = served.storage / _FOLDER
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    block = bytes(range(256)) * 4096
    with (folder / "model.safetensors").open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    student = StudentDocument(
        id="stu_large", budget="edge", subspace="tiny", params=size // 4, flops=1, sequence_length=128,
        heldout_loss=0.5, files=_FOLDER,
        architecture={
            "layers": 2, "hidden_size": 64, "intermediate_size": 128, "heads": 2, "head_width": 32,
            "source_layers": [0, 3],
        },
    )  # fmt: skip
    engine = open_database(served.storage / "service" / DATABASE_FILE)
    work = WorkStore(engine)
    work.begin_attempt(job_id)
    result = ResultDocument(status="succeeded", students=[student])
    work.end_attempt(job_id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=[]))
    engine.dispose()
    return job_id


def main() -> None:
    """Read the archive of a large student and record by how much the service grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2)
    options = parser.parse_args()
    size = int(options.gigabytes * 1e9)
    with serving(ray_address="http://127.0.0.1:9") as served:
        job_id = _finished(served, size)
        url = f"{served.client.server}/v1/compressions/{job_id}/students/stu_large/archive"
        small = httpx.get(url.replace("archive", "files/config.json"))  # warm-up: load what is loaded only once
        small.raise_for_status()
        before = served.process.memory_info().rss
        peak, ended = [before], threading.Event()

        def look() -> None:
            while not ended.wait(0.02):
                peak[0] = max(peak[0], served.process.memory_info().rss)

        watcher = threading.Thread(target=look)
        watcher.start()
        begun, read = time.perf_counter(), 0
        with httpx.stream("GET", url, timeout=60) as answer:
            answer.raise_for_status()
            for piece in answer.iter_raw():
                read += len(piece)
        seconds = time.perf_counter() - begun
        ended.set()
        watcher.join()
    if read < size:
        raise RuntimeError(f"{read} of {size} bytes came")
    record(
        "archive_memory",
        round((peak[0] - before) / 1e6, 1),
        "MB that the service's resident memory grew by while it streamed the archive",
        f"at most {BAR_MB}",
        None,
        "python -m benchmarks.archive_memory",
        archive_bytes=read,
        before_mb=round(before / 1e6, 1),
        peak_mb=round(peak[0] / 1e6, 1),
        megabytes_a_second=round(read / 1e6 / seconds, 1),
    )


if __name__ == "__main__":
    main()
