"""The verbs on a server's compressions, as users and their scripts run them."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.jobs.documents import EventEntry
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.clients import Answer
from tests.services.conftest import serving
from tests.services.searched import finished
from tests.services.test_cli import STILLROOM, _finish, _stillroom
from tests.services.test_event_stream import Run
from workloads.documents.job_folder import PlanBudgetDocument, PlanDocument, PlanStepDocument, ResultDocument


@pytest.fixture
def stillroom(client):
    """Run a verb on the test's server."""
    return runner(client.server)


def runner(server, **environment):
    """`run(*arguments)` runs a verb on a server."""

    def run(*arguments, server=server):
        return subprocess.run(
            [STILLROOM, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"STILLROOM_SERVER": server} | environment,
        )

    return run


def _lines(text):
    return [json.loads(line) for line in text.splitlines()]


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
    assert [event["message"] for event in _lines(stillroom("events", run.id, "--json").stdout)] == [
        "one",
        "two",
        "three",
    ]
    run.end()
    followed = stillroom("events", run.id, "--follow", "--after", "1-1", "--json").stdout
    assert [event["sequence"] for event in _lines(followed)] == [2, 3]
    assert stillroom("events", run.id, "--after", "1-2").stdout.split() == ["t", "1-3", "note", "three"]


def test_students_are_fetched_once_and_again_only_if_told(client, service, stillroom, make_request, tmp_path):
    job_id = client.submit(make_request()).id
    none = stillroom("download", job_id)
    assert (none.returncode, "no students" in none.stderr) == (1, True)
    _finish(service, job_id)
    done = stillroom("download", job_id, "--to", str(tmp_path / "to"))
    tar = tmp_path / "to" / "stu_1.tar"
    assert done.stdout == f"{tar}\n"
    with tarfile.open(tar) as opened:
        assert opened.getnames() == ["stu_1/config.json"]
    first = tar.stat().st_ino
    kept = json.loads(stillroom("download", job_id, "--to", str(tmp_path / "to"), "--json").stdout)
    assert kept == {"downloads": [{"student": "stu_1", "path": str(tar), "fetched": False}]}
    assert tar.stat().st_ino == first
    stillroom("download", job_id, "stu_1", "--to", str(tmp_path / "to"), "--again")
    assert tar.stat().st_ino != first
    stillroom("download", job_id, "stu_1", "--to", str(tmp_path / "to"), "--extract")
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["stu_1", "stu_1.tar"]
    assert (tmp_path / "to" / "stu_1" / "config.json").read_text() == "{}"
    shown = stillroom("show", job_id, "stu_1").stdout
    assert "config.json\t2" in shown


def test_a_folder_that_cannot_be_written_is_told(client, service, stillroom, make_request, tmp_path):
    job_id = client.submit(make_request()).id
    _finish(service, job_id)
    (tmp_path / "file").write_text("")
    done = stillroom("download", job_id, "--to", str(tmp_path / "file" / "to"), "--json")
    assert done.returncode == 1
    assert "Not a directory" in json.loads(done.stdout)["error"]["message"]
    assert "Traceback" not in done.stderr


def test_what_a_finished_compression_can_answer_is_listed(service, stillroom, make_request):
    job_id = finished(service, make_request()).id
    front = json.loads(stillroom("frontier", job_id, "--cost", "params", "--cost", "flops", "--json").stdout)
    assert front["costs"] == ["params", "flops"]
    table = stillroom("frontier", job_id).stdout.splitlines()
    assert table[0].split("\t") == ["sub-space", "shape", "FLOPs", "length", "held-out loss", "over the best"]
    assert len(table) > 2
    page = json.loads(stillroom("candidates", job_id, "--limit", "50", "--json").stdout)
    everything = json.loads(stillroom("candidates", job_id, "--limit", "50", "--all", "--json").stdout)
    assert (page["next"], len(page["candidates"]), everything["next"]) == ("50", 50, None)
    assert everything["candidates"][:50] == page["candidates"]
    assert len(everything["candidates"]) > 50
    names = [target["name"] for target in json.loads(stillroom("targets", "--json").stdout)["latency_targets"]]
    assert "cpu-1-onnx" in names
    assert "cpu-1-onnx\tcpu\t1\t" in stillroom("targets").stdout


def test_a_selection_is_found_again(service, stillroom, make_request, tmp_path):
    job_id = finished(service, make_request()).id
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("budgets: [{name: tiny, max_params: 20000000}]\n")
    arguments = ("select", job_id, str(budgets), "--no-wait", "--key", "mine", "--json")
    made, again = (json.loads(stillroom(*arguments).stdout)["id"] for _ in range(2))
    assert made == again
    assert [one["id"] for one in json.loads(stillroom("selections", job_id, "--json").stdout)["selections"]] == [made]
    assert "tiny\t" in stillroom("selections", job_id, made).stdout


def test_watching_with_json_gives_events_and_the_end_a_line_each(service, stillroom, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    run.end(AttemptStatus.FAILED, JobStatus.FAILED)
    done = stillroom("watch", run.id, "--json")
    first, last = _lines(done.stdout)
    assert (first["event"]["message"], last["compression"]["status"], done.returncode) == ("one", "failed", 1)
    assert "1-1  note  one" in done.stderr


def _plan(service, make_request):
    run = Run(service, service.store.create(NewJob(make_request(), "plan")).id)
    run.begin()
    run.tell("one")
    step = PlanStepDocument(name="train-tiny", seconds=12.0, reused=False, basis="timed")
    budget = PlanBudgetDocument(budget="edge", feasible=True, candidates={"tiny": 7})
    plan = PlanDocument(
        candidates={"tiny": 9}, seconds=12.0, device_hours=0.5, device="cpu", budgets=[budget], steps=[step],
        calibration_seconds=1.0,
    )  # fmt: skip
    result = ResultDocument(status="succeeded", plan=plan)
    service.work.end_attempt(
        run.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=[])
    )
    return run.id


def test_a_plan_and_a_selection_are_shown_watched_and_cancelled_by_their_ids_alone(
    client, service, stillroom, make_request
):
    plan = _plan(service, make_request)
    shown = stillroom("show", plan).stdout
    assert shown.startswith(f"{plan} succeeded\ncreated ")
    assert "budget edge: tiny 7" in shown and "train-tiny" in shown and "in all 12 s, 0.5 cpu hours" in shown
    watched = stillroom("watch", plan)
    assert (watched.returncode, "in all 12 s" in watched.stdout, "one" in watched.stderr) == (0, True, True)
    event, end = _lines(stillroom("watch", plan, "--json").stdout)
    assert (event["event"]["message"], end["plan"]["id"]) == ("one", plan)

    job = finished(service, make_request())
    made = client.select(job.id, {"budgets": [{"name": "tiny", "max_params": 20_000_000}]}).id
    shown = stillroom("show", made).stdout
    assert f"of        {job.id}" in shown and "tiny\t" in shown
    assert stillroom("cancel", made).stdout.startswith(f"{made} is cancel")
    watched = stillroom("watch", made, "--json")
    assert (watched.returncode, _lines(watched.stdout)[-1]["selection"]["status"]) == (1, "cancelled")


def test_a_batch_is_watched_and_shown_by_its_id_alone(client, service, stillroom, make_request):
    common = make_request()
    batch = client.submit_batch({"common": common, "compressions": [{}]})
    for one in batch.compressions:
        _finish(service, one.id)
    watched = stillroom("watch", batch.id, "--json")
    assert (watched.returncode, _lines(watched.stdout)[-1]["batch"]["status"]) == (0, "succeeded")
    assert f"{batch.id} is succeeded" in stillroom("show", batch.id).stdout
    assert stillroom("delete", batch.id, "--yes").returncode == 0


def test_verbs_that_only_look_make_no_storage(tmp_path):
    missing = tmp_path / "mistyped"
    for verb in (["keys", "list"], ["keys", "revoke", "01234567"], ["tenants", "list"], ["prune"],
                 ["prune", "--dry-run"]):  # fmt: skip
        done = _stillroom(*verb, "--storage", str(missing), "--json")
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["errors"][0]["field"]) == (2, "--storage"), done.stderr
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert _stillroom("keys", "list", "--storage", str(tmp_path / "empty")).returncode == 2
    assert list((tmp_path / "empty").iterdir()) == []
    assert _stillroom("keys", "create", "--storage", str(missing)).returncode == 0
    assert _stillroom("keys", "list", "--storage", str(missing)).stdout.count("\n") == 2


@pytest.mark.parametrize("all_pages", ["list", "candidates"])
def test_pages_that_lead_in_a_circle_come_to_an_end(script, all_pages):
    page = {"compressions": [], "candidates": [], "next": "x"}
    server = script(Answer(body=json.dumps(page).encode()))
    arguments = ["list"] if all_pages == "list" else ["candidates", "cmp_1"]
    done = runner(server.url)(*arguments, "--all", "--json")
    assert (done.returncode, "circle" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_what_is_no_student_ends_a_download_with_a_message_and_an_exit_code(script, tmp_path):
    server = script(Answer(body=b"no archive"))
    done = runner(server.url)("download", "cmp_1", "stu_1", "--to", str(tmp_path), "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "no archive" in json.loads(done.stdout)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_watcher_with_patience_waits_for_a_server_that_is_not_there_yet(service, make_request, unused_port):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    run.end()
    command = [STILLROOM, "watch", run.id, "--server", f"http://127.0.0.1:{unused_port}", "--patience", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
        assert "Trying again" in watcher.stderr.readline()
        with serving(service, unused_port):
            _, words = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, words
    assert "1-1  note  one" in words


def test_a_point_of_a_curve_is_told_with_its_numbers():
    from services.cli.progress_view import event_line

    data = {"step": "train-small", "done": 8192, "total": 20_000, "unit": "tokens", "loss_largest": 0.51234}
    event = EventEntry(attempt=1, sequence=3, time="t", type="metrics", message="train-small", data=data)
    assert event_line(event) == "t  1-3  metrics  train-small at 8,192 of 20,000 tokens: loss largest 0.5123"


# Background processes of a shell ignore Ctrl-C, and so do their children.
HEARS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_ctrl_c_on_a_watcher_says_how_to_go_on(client, service, make_request, tmp_path):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    with (tmp_path / "out").open("w") as out:
        watcher = subprocess.Popen(
            [sys.executable, "-c", HEARS_CTRL_C, STILLROOM, "watch", run.id, "--server", client.server],
            stdout=out, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        said = ""
        while "1-1  note  one" not in said:
            line = watcher.stderr.readline()
            assert line, said
            said += line
        watcher.send_signal(signal.SIGINT)
        _, rest = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
    assert watcher.returncode == 130
    assert f"stillroom watch {run.id} --after 1-1" in rest
    assert "Traceback" not in rest
    run.end()


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["show", "cmp_no"], 3, "refused"),
        (["list", "--status", "x"], 2, "bad_input"),
        (["list", "--label", "x"], 2, "bad_input"),
        (["list", "--bogus"], 2, "bad_input"),
        (["show"], 2, "bad_input"),
        (["frobnicate"], 2, "bad_input"),
        (["submit", "/nowhere.json"], 2, "bad_input"),
    ],
)
def test_errors_are_told_in_words_and_with_json_to_programs(stillroom, arguments, code, kind):
    done = stillroom(*arguments, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_code"], error["kind"]) == (code, code, kind)
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_an_exit_code_of_its_own(stillroom, unused_port):
    server = f"http://127.0.0.1:{unused_port}"
    done = stillroom("list", "--json", server=server)
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (4, "unreachable")
    assert stillroom("list", server=server).stdout == ""


def test_the_exit_codes_stand_in_the_help():
    done = _stillroom("--help")
    text = " ".join(done.stdout.split())
    for words in (
        "0 done",
        "1 failed",
        "2 wrong usage",
        "3 refused",
        "4 the server does not answer",
        "130 interrupted",
    ):
        assert words in text


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    from services.cli.main import app

    assert CliRunner().invoke(app, ["--version"]).stdout == f"stillroom {version('stillroom')}\n"


def test_every_verb_has_json():
    from typer.main import get_command

    from services.cli.main import app

    without = {name for name, verb in _verbs(get_command(app)) if "json" not in {one.name for one in verb.params}}
    assert without == {"serve"}


def test_the_page_on_the_command_line_names_every_verb():
    from typer.main import get_command

    from services.cli.main import app

    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    for name in get_command(app).commands:
        assert re.search(rf"\b{name}\b", page), name


def _verbs(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


# Completion


def _complete(shell, words, **environment):
    """The completions that a shell gets, by the protocol of its script."""
    given = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    if shell != "bash":
        given = {"_TYPER_COMPLETE_ARGS": " ".join(words), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return subprocess.run(
        [STILLROOM],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | given | {"_STILLROOM_COMPLETE": f"complete_{shell}"} | environment,
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_ids_are_completed_from_the_server(client, make_request, shell):
    ids = [client.submit(make_request()).id for _ in range(2)]
    done = _complete(shell, ["stillroom", "show", ids[0][:-1]], STILLROOM_SERVER=client.server)
    assert ids[0] in done.stdout
    assert ids[1] not in done.stdout or ids[1][:-1] == ids[0][:-1]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_without_a_server_is_silent(shell, unused_port):
    done = _complete(shell, ["stillroom", "show", "cmp_"], STILLROOM_SERVER=f"http://127.0.0.1:{unused_port}")
    assert "cmp_" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_is_shown(shell):
    done = subprocess.run(
        [STILLROOM, "--show-completion", shell],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert f"_STILLROOM_COMPLETE=complete_{shell}" in done.stdout


def test_a_bash_completes_verbs_and_ids_with_the_installed_script(client, make_request, tmp_path):
    job_id = client.submit(make_request()).id
    environment = os.environ | {
        "HOME": str(tmp_path), "STILLROOM_SERVER": client.server,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    script = f"""
        stillroom --install-completion >&2
        source ~/.bash_completions/stillroom.sh
        complete_it() {{
            COMP_WORDS=(stillroom "$@"); COMP_CWORD=$#
            _stillroom_completion stillroom
            echo "${{COMPREPLY[@]}}"
        }}
        complete_it wat
        complete_it show {job_id[:8]}
    """
    done = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stdout.splitlines() == ["watch", job_id], done.stderr
