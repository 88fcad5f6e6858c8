"""A run that writes events: their number is the label ``events``, the seconds between them ``every``."""

import argparse
import sys
import time

from workloads.documents.job_folder import EventDocument, JobFolder, ProgressDocument, ResultDocument, StepDocument, now
from workloads.storage.storage import Storage


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage")
    parser.add_argument("--job")
    parser.add_argument("--attempt", type=int)
    given = parser.parse_args()
    folder = JobFolder(Storage.open(given.storage), given.job)
    labels = folder.read_request()["labels"]
    total, events = int(labels["events"]), []
    for number in range(1, total + 1):
        events.append(EventDocument(sequence=number, time=now(), type="note", message=f"event {number}"))
        folder.write_events(given.attempt, events)
        step = StepDocument(name="talk", status="running", done=number, total=total, unit="events", rate=2.0)
        folder.write_progress(given.attempt, ProgressDocument(updated_at=now(), steps=[step]))
        time.sleep(float(labels["every"]))
    folder.write_result(given.attempt, ResultDocument(status="succeeded", seconds=1.0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
