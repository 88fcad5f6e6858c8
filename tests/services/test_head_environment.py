"""The environment that the embedded Ray and its runs inherit from the service."""

import os
import pwd
from pathlib import Path

import pytest

from services.embedded.environment import head_environment, import_path


def _environment(scratch="/scratch", niceness=0, **given):
    return head_environment(
        given, token_file=Path("/state/token"), scratch=Path(scratch), niceness=niceness, marker={"MARK": "1"}
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        (":/x", "/x"),
        ("/x:", "/x"),
        (".:/x:./", "/x"),
        ("/x::/y", "/x:/y"),
    ],
)
def test_the_current_folder_is_taken_out_of_the_import_path(given, kept):
    assert import_path(given) == kept


def test_a_folder_that_was_named_on_purpose_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert import_path("src:/x") == f"{tmp_path}/src:/x"
    assert import_path(str(tmp_path)) == str(tmp_path)


def test_no_interpreter_below_imports_from_its_folder_or_waits_at_a_prompt():
    found = _environment(PYTHONPATH=":", PYTHONSTARTUP="/x/start.py", PYTHONINSPECT="1", KEPT="1")
    assert found["PYTHONSAFEPATH"] == "1"
    assert not {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT"} & found.keys()
    assert (found["KEPT"], found["MARK"], found["TMPDIR"]) == ("1", "1", "/scratch")


def test_another_rays_address_does_not_reach_the_head():
    found = _environment(RAY_ADDRESS="http://other:8265", RAY_TMPDIR="/other", RAY_worker_niceness="15")
    assert not {"RAY_ADDRESS", "RAY_TMPDIR"} & found.keys()
    assert found["RAY_worker_niceness"] == "0"
    assert _environment(niceness=7)["RAY_worker_niceness"] == "7"


def test_rays_processes_talk_to_one_another_directly_whatever_proxy_there_is():
    found = _environment(HTTP_PROXY="http://proxy:3128", NO_PROXY="intra.net, 10.0.0.0/8")
    assert found["HTTP_PROXY"] == "http://proxy:3128"
    assert found["NO_PROXY"].split(",") == ["intra.net", "10.0.0.0/8", "127.0.0.1", "localhost", "::1"]
    assert found["no_proxy"] == found["NO_PROXY"]


def test_a_user_without_name_and_home_gets_both(monkeypatch):
    def nobody(_):
        raise KeyError

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    found = _environment()
    assert (found["HOME"], found["USER"]) == ("/scratch", f"uid-{os.getuid()}")
    assert "USER" not in _environment_of_a_known_user(monkeypatch)


def _environment_of_a_known_user(monkeypatch):
    monkeypatch.setenv("USER", "somebody")
    return _environment(HOME="/home/somebody")
