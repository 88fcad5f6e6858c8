"""``stillroom score``: what it starts, and what it prints."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from services.cli import score
from services.cli.main import app
from tests.services.conftest import wait_until
from workloads.documents.student_score import ANSWER, Finding, LossDocument, ScoreAnswer, StudentScore

ROOT = Path(__file__).parents[2]
SCORE = StudentScore(
    heldout_loss=0.5771, spread=0.0031, rows=96, sequence_length=128, text="heldout", source=["/data"],
    teacher="/teacher", polished=False, recorded=LossDocument(heldout_loss=0.577, spread=None, rows=96), ratio=1.00017,
)  # fmt: skip


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Stands for the child process: keeps its command, and writes an answer."""

    class Program:
        answer = ScoreAnswer(score=SCORE)
        returncode = 0
        command = ()

        def __call__(self, command, **options):
            self.command = command
            work = next(one.partition("=")[2] for one in command if one.startswith("--work="))
            if self.answer is not None:
                (Path(work) / ANSWER).write_text(self.answer.model_dump_json())
            return subprocess.CompletedProcess(command, self.returncode)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STILLROOM_STORAGE", raising=False)
    program = Program()
    monkeypatch.setattr(score.subprocess, "run", program)
    return program


def _run(*arguments):
    return CliRunner().invoke(app, ["score", *arguments])


def test_the_loss_stands_beside_the_recorded_one(program):
    done = _run("student")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "loss      0.5771 ± 0.0031, 96 rows of 128 tokens",
        "recorded  0.5770, 96 rows",
        "ratio     1.0002",
        "text      the compression's held-out text: /data",
        "teacher   /teacher",
    ]
    assert json.loads(_run("student", "--json").stdout) == json.loads(SCORE.model_dump_json())


def test_options_reach_the_program_and_a_default_storage_only_if_it_is_there(program, tmp_path):
    _run("student", "--teacher", "t", "--text", "a", "--text", "b", "--rows", "7")
    assert program.command[5:] == ["--teacher=t", "--text=a", "--text=b", "--rows=7", "--", "student"]
    (tmp_path / "stillroom-data").mkdir()
    _run("--", "-x")
    assert program.command[5:] == [f"--storage={tmp_path / 'stillroom-data'}", "--", "-x"]
    done = _run("student", "--storage", "elsewhere")
    assert (done.exit_code, "--storage: There is no storage" in done.stderr) == (2, True)


def test_findings_and_failures_have_exit_codes_of_their_own(program):
    program.answer = ScoreAnswer(findings=[Finding(field="--rows", problem="Too many.", remedy="Use fewer.")])
    done = _run("student")
    assert (done.exit_code, done.stderr) == (2, "error: --rows: Too many. Use fewer.\n")
    program.answer = ScoreAnswer(failure="OSError: full")
    assert (_run("student").exit_code, _run("student").stderr) == (1, "error: OSError: full\n")
    program.answer, program.returncode = None, 1
    done = _run("student", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["error"]["kind"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_program_too(tmp_path, number):
    """The program is one that only waits, in place of the one that loads the models."""
    (tmp_path / "waiting.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid.new').write_text(str(os.getpid()))\n"
        "os.rename('pid.new', 'pid')\n"
        "time.sleep(60)\n"
    )
    verb = "from services.cli import score; score._PROGRAM = 'waiting'; score._answer([])"
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    with subprocess.Popen(
        [sys.executable, "-c", verb], cwd=tmp_path, env=os.environ | path, stderr=subprocess.DEVNULL
    ) as process:
        wait_until((tmp_path / "pid").exists, 60, "the program runs")
        child = int((tmp_path / "pid").read_text())
        process.send_signal(number)
        assert process.wait(60) != 0
    wait_until(lambda: not psutil.pid_exists(child), 10, "the program has ended")


def test_a_folder_of_something_else_is_refused_by_the_real_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = _run(str(tmp_path))
    assert done.exit_code == 2
    assert f"FOLDER: {tmp_path} is not a student of stillroom: it has no heldout_loss.json." in done.stderr
