"""Making a kit, on a machine that has the project installed; the tokenising of a large text starts Ray."""

from __future__ import annotations

import importlib.metadata
import io
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.gpu.kit import (
    BEFORE,
    COMMIT,
    DATA,
    MANIFEST,
    ROOT,
    TEACHERS,
    WHEELS,
    WORK,
    Kit,
    KitError,
    Manifest,
    hash_of_code,
)
from benchmarks.gpu.sizes import FULL, SIZES, TINY, Sizes
from benchmarks.quality.made_up import made_up_places
from benchmarks.quality.making import commit
from benchmarks.quality.places import PACKAGED, Places
from benchmarks.quality.plan import Planner
from benchmarks.quality.scene import Scene
from workloads.shapes import teacher_files
from workloads.shapes.teacher_folder import TeacherFolder
from workloads.storage.tarfiles import tarfile

MIB = 1 << 20
MOST_FOLDER, MOST_TOGETHER = 54 * MIB, 62 * MIB
"""Most bytes of the kit without its wheels, and of kit, wheels and checkout together."""
PACKAGES = ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection", "psutil")
"""Packages that a plain PyTorch machine may lack, or have too old."""
TARGET = ("3.12", "x86_64")
"""Python and processor of the GPU machine."""
_GLIBC = (28, 27, 17, 12, 5)
_HALF = "-half"


@dataclass(frozen=True)
class Written:
    """Bytes of a kit.

    Attributes:
        parts: Bytes by part of the folder, wheels not among them.
        wheels: Bytes of the wheels.
        checkout: Bytes of the checkout's files that git does not ignore.
    """

    parts: dict[str, int]
    wheels: int
    checkout: int

    @property
    def folder(self) -> int:
        """Bytes of the folder without its wheels."""
        return sum(self.parts.values())

    @property
    def together(self) -> int:
        """Bytes of all that travels."""
        return self.folder + self.wheels + self.checkout

    def check(self) -> None:
        """Refuse a kit that is too large.

        Raises:
            KitError: The folder, or all that travels, is over its limit.
        """
        for what, size, most in (
            ("The kit without wheels", self.folder, MOST_FOLDER),
            ("Kit, wheels and checkout together", self.together, MOST_TOGETHER),
        ):
            if size > most:
                raise KitError(
                    f"{what} has {_mib(size)}, over the limit of {_mib(most)}: "
                    + ", ".join(f"{name} {_mib(part)}" for name, part in self.parts.items())
                    + f", wheels {_mib(self.wheels)}, checkout {_mib(self.checkout)}."
                )

    def lines(self) -> list[str]:
        """Lines that tell the sizes."""
        parts = {**self.parts, "wheels": self.wheels, "checkout": self.checkout}
        lines = [f"{name:10} {_mib(size):>10}" for name, size in parts.items()]
        lines.append(f"{'folder':10} {_mib(self.folder):>10} of {_mib(MOST_FOLDER)}, wheels not counted")
        return [*lines, f"{'together':10} {_mib(self.together):>10} of {_mib(MOST_TOGETHER)}"]


def prepare(to: Path, data: Path, *, before: str | None = None, wheels: bool = True) -> Written:
    """Make the kit for the full run.

    Args:
        to: The folder; an older kit in it is replaced.
        data: Folder with ``corpus/`` and ``tasks/``.
        before: A commit whose code the utilisation is measured with too.
        wheels: Whether to download the wheels.

    Raises:
        KitError: The kit is too large, files are missing, or the folder has other files.
    """
    _empty(to)
    profile = FULL.profile
    _half_teacher(profile.teacher, to / TEACHERS / profile.teacher)
    for task in profile.tasks:
        for side in ("train", "validation"):
            path = data / "tasks" / task / f"{side}.parquet"
            if not path.exists():
                raise KitError(f"{path} is missing; give the folder of text and tasks with --data.")
            (to / DATA / "tasks" / task).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / DATA / "tasks" / task / path.name)
    if before is not None:
        _code_of(before, to / BEFORE)
    if wheels:
        _download_wheels(to / WHEELS)
    _finish(to, Places(to / WORK, data, to / TEACHERS), FULL)
    written = sizes_of(to)
    written.check()
    return written


def prepare_tiny(to: Path) -> Written:
    """Make a kit of a tiny random teacher and made-up rows, without wheels."""
    _empty(to)
    places = made_up_places(to / "made-up")
    shutil.move(places.data, to / DATA)
    shutil.move(places.work / TEACHERS, to / TEACHERS)
    shutil.rmtree(to / "made-up")
    _finish(to, Places(to / WORK, to / DATA, to / TEACHERS), TINY)
    shutil.rmtree(to / DATA / "corpus")
    return sizes_of(to)


def sizes_of(folder: Path) -> Written:
    """Measure a kit and this checkout."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
    paths = {ROOT / name for name in listed.split("\0") if name}
    parts = {name: _bytes(folder / name) for name in (TEACHERS, WORK, DATA, BEFORE, MANIFEST)}
    inside = {path for path in paths if path.is_relative_to(folder.resolve())}
    return Written(
        parts, _bytes(folder / WHEELS), sum(path.stat().st_size for path in paths - inside if path.is_file())
    )


def _finish(to: Path, places: Places, sizes: Sizes) -> None:
    """Tokenise the text, and write the manifest."""
    scene = Scene(Planner(sizes.profile, {}).scene.inputs, places)
    manifest = Manifest(sizes.profile.name, scene.corpus.fingerprint, commit(), hash_of_code())
    assert manifest.profile in SIZES
    Kit(to, manifest).write_manifest()


def _empty(to: Path) -> None:
    if to.exists() and any(to.iterdir()):
        if not (to / MANIFEST).exists() and not (to / TEACHERS).exists():
            raise KitError(f"{to} has files of something else; give an empty folder.")
        shutil.rmtree(to)
    to.mkdir(parents=True, exist_ok=True)


def _half_teacher(name: str, to: Path) -> None:
    """Copy a packaged teacher with its weights in half precision."""
    whole = name.removesuffix(_HALF)
    assert name.endswith(_HALF) and whole in PACKAGED, name
    folder = TeacherFolder.open(str(Places(to, to).teacher(whole)))
    to.mkdir(parents=True)
    weights = set(folder.weight_files())
    for file in set(teacher_files.files_to_copy(folder)) - weights - {"README.md"}:
        (to / file).parent.mkdir(exist_ok=True)
        (to / file).write_bytes(folder.storage.read_bytes(file))
    if weights != {teacher_files.WEIGHTS}:
        raise KitError(f"The weights of {whole} are not in one file.")
    halves = {}
    for tensor, value in load_file(folder.storage.path(teacher_files.WEIGHTS)).items():
        halves[tensor] = value.half() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(halves[tensor]).all()):
            raise KitError(f"{tensor} of {whole} has values that half precision cannot hold.")
    save_file(halves, to / teacher_files.WEIGHTS, {"format": "pt"})


def _code_of(before: str, to: Path) -> None:
    """Write the package ``workloads`` of a commit, and the commit's name."""
    to.mkdir(parents=True)
    (to / COMMIT).write_text(_git("rev-parse", "--short=12", f"{before}^{{commit}}").decode())
    with tarfile.open(fileobj=io.BytesIO(_git("archive", before, "workloads"))) as archive:
        archive.extractall(to, filter="data")


def _git(*words: str) -> bytes:
    found = subprocess.run(("git", *words), cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        raise KitError(f"git {' '.join(words)}: {found.stderr.decode().strip()}")
    return found.stdout


def _download_wheels(to: Path) -> None:
    """Download the wheels of this machine's versions for the GPU machine's Python."""
    python, processor = TARGET
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    platforms = [f"manylinux_2_{glibc}_{processor}" for glibc in _GLIBC] + [f"manylinux2014_{processor}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(to)]
    command += [word for one in platforms for word in ("--platform", one)]
    if subprocess.run([*command, *wanted], check=False).returncode:
        raise KitError("pip could not download the wheels; see its message above, or leave them out with --no-wheels.")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
