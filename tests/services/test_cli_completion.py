"""Completion of verbs and ids in the shells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.verbs import STILLROOM


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
