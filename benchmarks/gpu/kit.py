"""The kit: the folder that a GPU machine needs beside a checkout. Light to import."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import benchmarks
import workloads
from benchmarks.gpu.sizes import SIZES, Sizes
from benchmarks.quality.places import Places

MANIFEST, WORK, DATA, TEACHERS, WHEELS, BEFORE = "kit.json", "work", "data", "teachers", "wheels", "before"
COMMIT = "commit"
"""File with the name of the commit before."""
ROOT = Path(__file__).parents[2]


class KitError(Exception):
    """A kit that cannot be made or used; the message has the remedy."""


@dataclass(frozen=True)
class Manifest:
    """Facts about a kit.

    Attributes:
        profile: Name of the profile that it was made for.
        corpus: Fingerprint of the tokenised corpus.
        commit: Commit of the checkout that made it, with ``+`` if files had been changed since.
        code: Hash of that checkout's code, which tells whether another checkout has the same.
    """

    profile: str
    corpus: str
    commit: str
    code: str


@dataclass(frozen=True)
class Kit:
    """A kit in a folder."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Kit:
        """Read the manifest.

        Raises:
            KitError: There is no kit, or one of another version.
        """
        try:
            found = Manifest(**json.loads((folder / MANIFEST).read_text()))
        except FileNotFoundError:
            raise KitError(
                f"{folder} has no kit; make one with: python -m benchmarks.gpu prepare --to FOLDER"
            ) from None
        except (TypeError, ValueError) as error:
            raise KitError(f"{folder / MANIFEST} is of another version ({error}); prepare the kit again.") from error
        if found.profile not in SIZES:
            raise KitError(f"{folder} was made for {found.profile!r}, which this checkout lacks; prepare it again.")
        return cls(folder, found)

    def write_manifest(self) -> None:
        """Write the manifest, which makes the folder a kit."""
        (self.folder / MANIFEST).write_text(json.dumps(asdict(self.manifest), indent=1) + "\n")

    @property
    def sizes(self) -> Sizes:
        """Sizes of the runs that it is for."""
        return SIZES[self.manifest.profile]

    @property
    def teacher(self) -> Path:
        """Folder of the teacher."""
        return self.folder / TEACHERS / self.sizes.profile.teacher

    def places(self, work: Path) -> Places:
        """Copy the tokenised corpus into a work folder, where trained weights will lie too, and return the places."""
        shutil.copytree(self.folder / WORK, work, dirs_exist_ok=True)
        return Places(work, self.folder / DATA, self.folder / TEACHERS, self.manifest.corpus)

    @property
    def uses_code_before(self) -> bool:
        """Whether this process uses the code of the commit before, which lies in the kit, and not the checkout's."""
        before = (self.folder / BEFORE).resolve()
        return any(Path(path).resolve().is_relative_to(before) for path in workloads.__path__)

    def commit_here(self, commit: str) -> str:
        """Name the commit of the code of this process.

        Args:
            commit: What git says of the checkout, or ``unknown`` on a machine without its history.
        """
        if self.uses_code_before:
            return (self.folder / BEFORE / COMMIT).read_text().strip()
        if commit != "unknown":
            return commit
        known = self.manifest.commit
        return known if hash_of_code() == self.manifest.code else f"{known.removesuffix('+')}+"


def hash_of_code() -> str:
    """Hash the Python files of this process that decide figures."""
    total = hashlib.sha256()
    for package in (benchmarks, workloads):
        folder = Path(next(iter(package.__path__)))
        for path in sorted(folder.rglob("*.py")):
            name = f"{package.__name__}/{path.relative_to(folder)}"
            total.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:24]
