"""A runner of Python scripts on a real, small file system."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run_on_small_disk(script: str, mount: Path, options: str = "size=1m") -> subprocess.CompletedProcess[str]:
    """Run ``script`` with a tmpfs of 1 MiB, or of other ``options``, at ``mount``, which it gets as its first argument.

    Skips the test where the system does not allow mounting one.
    """
    unshare = shutil.which("unshare")
    inside = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    enter = [str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c"]
    trial = [*enter, inside, str(mount), "true"]
    if unshare is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount a small file system")
    command = [*enter, inside, str(mount), sys.executable, "-c", script, str(mount)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
