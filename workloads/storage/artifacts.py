"""Artefacts: results of finished stages, committed by writing the manifest last.

Writing ``artifacts/<stage>/<fingerprint>/manifest.json`` commits the artefact. Each builder writes the files into a
folder of its own below ``builds/``, so that a straggler of an older attempt cannot damage them. The file ``used``
beside the manifest marks the last use; its time tells :mod:`workloads.storage.sweep` which artefacts are in use.
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
"""Seconds for which a mark (or the manifest itself) is fresh; a fresh mark is not rewritten."""
_LIBRARIES = ("torch", "transformers", "ray", "pyarrow", "datasets")


@dataclass(frozen=True)
class Key:
    """Key of a stage: all that decides its result. The manifest records device and versions; they are not hashed.

    Attributes:
        stage: Name of the stage, such as ``corpus`` or ``superlm``.
        inputs: JSON-like values; artefacts of other stages are given by their fingerprints.
    """

    stage: str
    inputs: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of the stage, the code's schema version and the inputs: 24 hexadecimal digits."""
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
        summary: Facts for later stages and for people, readable without opening the files.
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
    """Return the committed artefact of ``key``, if there is one, and mark it as used."""
    _note_use(storage, key.folder)
    try:
        return read_manifest(storage, key.folder)
    except FileNotFoundError:
        return None


def load(storage: Storage, stage: str, fingerprint: str) -> Artifact:
    """Return a committed artefact by its fingerprint, and mark it as used.

    Raises:
        FileNotFoundError: There is no such artefact.
    """
    folder = f"{ROOT}/{stage}/{fingerprint}"
    _note_use(storage, folder)
    return read_manifest(storage, folder)


def read_manifest(storage: Storage, folder: str) -> Artifact:
    """Read the manifest of a folder.

    Raises:
        FileNotFoundError: The folder holds no committed artefact.
    """
    return Artifact(**storage.read_json(f"{folder}/{MANIFEST}"))


def _note_use(storage: Storage, folder: str) -> None:
    """Mark an artefact as used, before its manifest is read: pruning removes the manifest, then reads the mark."""
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
    """Return the folder for the files of ``key`` that ``builder`` writes (job and attempt, such as ``cmp_x-1``)."""
    return f"{key.folder}/builds/{builder}"


def commit(storage: Storage, key: Key, builder: str, summary: dict[str, Any], device: str = "cpu") -> Artifact:
    """Commit the builder's folder as the artefact by writing the manifest."""
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
    """Sum the bytes of the artefacts that a job built itself, in any of its attempts.

    Args:
        storage: The storage that holds them.
        used: Fingerprints by stage, of all artefacts that the job used.
        job: The job's id; builders are named after it.

    Raises:
        FileNotFoundError: One of the artefacts has been removed.
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
