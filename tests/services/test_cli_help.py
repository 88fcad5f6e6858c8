"""The help of the command line, its version and its page in the documentation."""

import re
from pathlib import Path

from typer.testing import CliRunner

from services.cli.main import app
from tests.services.verbs import run_here


def test_the_exit_codes_stand_in_the_help():
    done = run_here("--help")
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

    assert CliRunner().invoke(app, ["--version"]).stdout == f"stillroom {version('stillroom')}\n"


def test_every_verb_has_json():
    from typer.main import get_command

    without = {name for name, verb in _verbs(get_command(app)) if "json" not in {one.name for one in verb.params}}
    assert without == {"serve"}


def test_the_page_on_the_command_line_names_every_verb():
    from typer.main import get_command

    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    for name in get_command(app).commands:
        assert re.search(rf"\b{name}\b", page), name


def _verbs(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command
