"""The verbs that read a compression's results: students and their files, the frontier, candidates and selections."""

import json
import tarfile

from tests.services.clients import Answer
from tests.services.searched import finished
from tests.services.test_cli import _finish
from tests.services.verbs import on_server, run_here


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


def test_what_is_no_student_ends_a_download_with_a_message_and_an_exit_code(script, tmp_path):
    server = script(Answer(body=b"no archive"))
    done = on_server(run_here, server.url)("download", "cmp_1", "stu_1", "--to", str(tmp_path), "--json")
    assert done.returncode == 1
    assert "not a readable archive" in json.loads(done.stdout)["error"]["message"]
    assert list(tmp_path.iterdir()) == []
