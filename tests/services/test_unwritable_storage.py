"""``stillroom serve`` on a storage that cannot be written: a message and a remedy before anything is started."""

import subprocess
import sys
from pathlib import Path

from tests.small_disk import run_on_small_disk

STILLROOM = str(Path(sys.executable).parent / "stillroom")

_SERVE = f"""
import subprocess, sys
done = subprocess.run(
    [{STILLROOM!r}, "serve", "--port", "0", "--storage", sys.argv[1]], capture_output=True, text=True, timeout=60
)
sys.stdout.write(done.stderr)
sys.exit(done.returncode)
"""


def test_serving_from_a_read_only_mount_is_refused_with_the_cause(tmp_path):
    _refused(run_on_small_disk(_SERVE, tmp_path, "size=1m,ro"), tmp_path, "Read-only file system")


def test_serving_from_a_full_disk_is_refused_with_the_cause(tmp_path):
    fill = "import sys\nopen(sys.argv[1] + '/filler', 'wb').write(bytes(1 << 20))\n"  # every byte of it
    _refused(run_on_small_disk(fill + _SERVE, tmp_path), tmp_path, "No space left on device")


def test_serving_from_a_file_is_refused_with_the_cause(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    command = [sys.executable, "-c", _SERVE, str(file)]
    _refused(subprocess.run(command, capture_output=True, text=True, check=False), file, "File exists")


def _refused(done, storage, cause):
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error: storage: {storage} cannot be written: " in done.stdout
    assert cause in done.stdout
    assert "Choose a folder or bucket" in done.stdout
    assert "Traceback" not in done.stdout


def test_serving_from_a_disk_without_room_for_the_database_is_refused_with_the_cause(tmp_path):
    fill = "import sys\nopen(sys.argv[1] + '/filler', 'wb').write(bytes((1 << 20) - (8 << 10)))\n"  # 8 KiB are left
    done = run_on_small_disk(fill + _SERVE, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot be written" in done.stdout and "Traceback" not in done.stdout
