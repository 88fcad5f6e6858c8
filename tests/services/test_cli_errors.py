"""What verbs say of wrong usage, of storages and servers that are not there, and of malformed answers."""

import json
import time

import pytest

from tests.services.clients import Answer
from tests.services.verbs import on_server, run_here, run_process


def test_verbs_that_only_look_make_no_storage(tmp_path):
    missing = tmp_path / "mistyped"
    for verb in (["keys", "list"], ["keys", "revoke", "01234567"], ["tenants", "list"], ["prune"],
                 ["prune", "--dry-run"]):  # fmt: skip
        done = run_here(*verb, "--storage", str(missing), "--json")
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["errors"][0]["field"]) == (2, "--storage"), done.stderr
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert run_here("keys", "list", "--storage", str(tmp_path / "empty")).returncode == 2
    assert list((tmp_path / "empty").iterdir()) == []
    assert run_here("keys", "create", "--storage", str(missing)).returncode == 0
    assert run_here("keys", "list", "--storage", str(missing)).stdout.count("\n") == 2


@pytest.mark.parametrize("all_pages", ["list", "candidates"])
def test_pages_that_lead_in_a_circle_come_to_an_end(script, all_pages):
    page = {"compressions": [], "candidates": [], "next": "x"}
    server = script(Answer(body=json.dumps(page).encode()))
    arguments = ["list"] if all_pages == "list" else ["candidates", "cmp_1"]
    done = on_server(run_here, server.url)(*arguments, "--all", "--json")
    assert (done.returncode, "circle" in done.stderr) == (1, True)


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


@pytest.mark.parametrize(
    ("arguments", "code"), [(["show", "cmp_no"], 3), (["list", "--bogus"], 2), (["submit", "/nowhere.json"], 2)]
)
def test_a_process_ends_with_the_exit_code_and_without_a_traceback(client, arguments, code):
    done = on_server(run_process, client.server)(*arguments, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (code, code)
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_an_exit_code_of_its_own(stillroom, unused_port):
    server = f"http://127.0.0.1:{unused_port}"
    done = stillroom("list", "--json", server=server)
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (4, "unreachable")
    assert stillroom("list", server=server).stdout == ""


DEEP = 100_000
NESTED = {
    "flow.yaml": "a: " + "[" * DEEP,
    "flow map.yaml": "a: " + "{a: " * DEEP,
    "block.yaml": "".join(f"{' ' * depth}a:\n" for depth in range(200)),
    "sequence.yaml": "- " * DEEP,
    "object.json": '{"a": ' * DEEP,
    "closed.json": '{"a": ' + "[" * DEEP + "]" * DEEP + "}",
}


@pytest.mark.parametrize("verb", [("submit",), ("batch", "submit"), ("evaluate", "submit"), ("select", "cmp_1")])
@pytest.mark.parametrize("name", NESTED)
def test_a_file_that_is_nested_deep_is_refused_at_once_by_every_verb(script, tmp_path, verb, name):
    server = script(Answer(500))
    file = tmp_path / name
    file.write_text(NESTED[name])
    begun = time.process_time()
    done = on_server(run_here, server.url)(*verb, str(file), "--json")
    (finding,) = json.loads(done.stdout)["error"]["errors"]
    assert (done.returncode, server.requests) == (2, [])
    assert "nested" in finding["problem"] and finding["field"] in {"FILE", "request"} and finding["remedy"]
    assert time.process_time() - begun < 2
