"""The verbs that list compressions, show and change one, and list its events."""

import json

from services.jobs.records import NewJob
from tests.services.test_cli import _finish
from tests.services.test_event_stream import Run
from tests.services.verbs import json_lines


def test_compressions_are_listed_by_state_and_labels_and_page_by_page(client, service, stillroom, make_request):
    ids = [client.submit(make_request(team=team)).id for team in ("a", "b", "a")]
    _finish(service, ids[0])
    page = json.loads(stillroom("list", "--label", "team:a", "--limit", "1", "--json").stdout)
    assert [job["id"] for job in page["compressions"]] == [ids[2]]
    rest = json.loads(stillroom("list", "--label", "team:a", "--after", page["next"], "--json").stdout)
    assert [job["id"] for job in rest["compressions"]] == [ids[0]]
    done = stillroom("list", "--status", "queued", "--limit", "1", "--all")
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == ["id", "status", "teacher", "budgets", "created"]
    assert [row[:4] for row in rows] == [[id, "queued", "someone/some-hub-model", "edge"] for id in (ids[2], ids[1])]
    assert "--after" in stillroom("list", "--limit", "1").stderr


def test_a_compression_is_shown_cancelled_resumed_and_forgotten(client, stillroom, make_request):
    job_id = client.submit(make_request()).id
    assert f"{job_id} queued" in stillroom("show", job_id).stdout
    assert json.loads(stillroom("cancel", job_id, "--json").stdout)["status"] == "cancelled"
    assert stillroom("resume", job_id).stdout == f"{job_id} is queued.\n"
    refused = stillroom("resume", job_id, "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (3, "conflict")
    client.cancel(job_id)
    unsure = stillroom("delete", job_id)
    assert (unsure.returncode, "--yes" in unsure.stderr) == (2, True)
    assert json.loads(stillroom("delete", job_id, "--yes", "--json").stdout) == {"deleted": job_id}
    gone = stillroom("show", job_id)
    assert (gone.returncode, gone.stdout, job_id in gone.stderr) == (3, "", True)


def test_events_are_listed_a_line_each_and_followed_from_any_of_them(service, stillroom, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    for message in ("one", "two", "three"):
        run.tell(message)
    assert [event["message"] for event in json_lines(stillroom("events", run.id, "--json").stdout)] == [
        "one",
        "two",
        "three",
    ]
    run.end()
    followed = stillroom("events", run.id, "--follow", "--after", "1-1", "--json").stdout
    assert [event["sequence"] for event in json_lines(followed)] == [2, 3]
    assert stillroom("events", run.id, "--after", "1-2").stdout.split() == ["t", "1-3", "note", "three"]
