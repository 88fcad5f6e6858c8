"""Finished stages: each is a folder that counts only once its manifest is written, last.

``artifacts/<stage>/<fingerprint>/manifest.json`` commits; the files lie in a folder of the builder's own
below ``builds/``, so that a straggler of an older attempt can spoil nothing. ``used`` beside the manifest is rewritten
now and then when the artefact is found: by its time :mod:`workloads.storage.sweep` sees what was used lately.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from workloads.storage.storage import Storage

SCHEMA_VERSION = 3
ROOT, MANIFEST, MARK = "artifacts", "manifest.json", "used"
MARK_SECONDS = 600.0
"""A use is noted where the last one noted, or the making, is older than this."""
_LIBRARIES = ("torch", "transformers", "ray", "pyarrow", "datasets")


@dataclass(frozen=True)
class Key:
    """What decides a stage's result; device and versions are recorded in the manifest, not hashed.

    Attributes:
        stage: Such as ``corpus`` or ``superlm``.
        inputs: JSON-like values, other stages by their fingerprint.
    """

    stage: str
    inputs: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """24 hexadecimal digits over the stage, the code's schema version and the inputs."""
        text = json.dumps([self.stage, SCHEMA_VERSION, self.inputs], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def folder(self) -> str:
        """The artefact's folder, relative to the storage."""
        return f"{ROOT}/{self.stage}/{self.fingerprint}"


@dataclass(frozen=True)
class Artifact:
    """A committed stage.

    Attributes:
        files: Folder of its files, relative to the storage.
        summary: What later stages and people read of it without opening the files.
    """

    stage: str
    fingerprint: str
    files: str
    summary: dict[str, Any]
    inputs: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    created_at: str = ""
    builder: str = ""
    device: str = ""
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def job(self) -> str:
        """The job that built it."""
        return self.builder.rpartition("-")[0]


def find(storage: Storage, key: Key) -> Artifact | None:
    """Give the committed artefact of ``key``, if there is one, and note its use."""
    _note_use(storage, key.folder)
    try:
        return read_manifest(storage, key.folder)
    except FileNotFoundError:
        return None


def load(storage: Storage, stage: str, fingerprint: str) -> Artifact:
    """Give a committed artefact by its fingerprint, and note its use.

    Raises:
        FileNotFoundError: There is none.
    """
    folder = f"{ROOT}/{stage}/{fingerprint}"
    _note_use(storage, folder)
    return read_manifest(storage, folder)


def read_manifest(storage: Storage, folder: str) -> Artifact:
    """Give what is committed in a folder.

    Raises:
        FileNotFoundError: Nothing is.
    """
    return Artifact(**storage.read_json(f"{folder}/{MANIFEST}"))


def _note_use(storage: Storage, folder: str) -> None:
    """Note a use before the manifest is read: pruning takes the manifest away first and looks at the note then."""
    made = storage.modified(f"{folder}/{MANIFEST}")
    if made is None or _is_fresh(made):
        return
    used = storage.modified(f"{folder}/{MARK}")
    if used is None or not _is_fresh(used):
        with contextlib.suppress(OSError):  # a full storage can still be read
            storage.write_bytes(f"{folder}/{MARK}", b"")


def _is_fresh(time: datetime) -> bool:
    return (datetime.now(UTC) - time).total_seconds() < MARK_SECONDS


def build_folder(key: Key, builder: str) -> str:
    """The folder that ``builder`` (such as ``cmp_x-1``: job and attempt) writes the files of ``key`` into."""
    return f"{key.folder}/builds/{builder}"


def commit(storage: Storage, key: Key, builder: str, summary: dict[str, Any], device: str = "cpu") -> Artifact:
    """Write the manifest, which makes the builder's folder the artefact, and return it."""
    artifact = Artifact(
        stage=key.stage,
        fingerprint=key.fingerprint,
        files=build_folder(key, builder),
        summary=summary,
        inputs=key.inputs,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        builder=builder,
        device=device,
        libraries=_versions(),
    )
    storage.write_json(f"{key.folder}/{MANIFEST}", asdict(artifact))
    return artifact


def bytes_built(storage: Storage, used: Mapping[str, Sequence[str]], job: str) -> int:
    """Bytes of the artefacts that a job has built itself, at any attempt.

    Args:
        storage: Where they are.
        used: Fingerprints by stage, of all that the job came by.
        job: Its id; its builders are named after it.
    """
    folders = (f"{ROOT}/{stage}/{one}" for stage, fingerprints in used.items() for one in fingerprints)
    found = (read_manifest(storage, folder) for folder in folders)
    return sum(storage.bytes_below(one.files) for one in found if one.job == job)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
