"""Pruning: finding and removing artefacts that no job needs any more.

An artefact is *needed* if a job in the database names it or built it, or if a needed artefact was made from it. Any
other artefact is removed once it has not been used for a while. A run marks the use of an artefact before it reads
the manifest. Pruning removes the manifest before it reads the mark. So if both happen at the same time, one of them
sees the other.

Interrupted attempts leave partial builds, checkpoints and scores of a search. These are removed with the job, or
once the job has no use for them.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workloads.storage.artifacts import MANIFEST, MARK, ROOT, Artifact, read_manifest
from workloads.storage.storage import Storage, StoredFile

# Name of a folder of one job and attempt, or of Ray Train's folder beside the checkpoints.
_BUILDER = re.compile(r"(?:[0-9a-f]{24}-ray-)?(?P<job>[a-z]+_\w+)-(?P<attempt>\d+)")
_BUILD = re.compile(rf"{ROOT}/(?P<stage>[^/\"\s]+)/(?P<fingerprint>[^/\"\s]+)/builds/[^/\"\s]+")

Name = tuple[str, str]
"""An artefact's stage and fingerprint."""


@dataclass(frozen=True)
class Holder:
    """A job in the database, and the artefacts that it needs.

    Attributes:
        tenant: The job's tenant.
        named: The artefacts that it names.
        builds: Folders of builds that it names.
        may_go_on: Whether it may have another attempt, which continues from the files of earlier ones.
        running: Number of the running attempt, if there is one.
    """

    tenant: str
    named: frozenset[Name] = frozenset()
    builds: frozenset[str] = frozenset()
    may_go_on: bool = False
    running: int | None = None


@dataclass(frozen=True)
class Removable:
    """A folder or file that nothing needs.

    Attributes:
        path: Relative to the storage.
        bytes: Size of all its files.
        used: Time of its last use or write.
        committed: Whether it is an artefact; else an interrupted attempt left it.
    """

    path: str
    bytes: int
    used: datetime
    committed: bool


@dataclass(frozen=True)
class Kept:
    """An artefact that stays.

    Attributes:
        bytes: Size of the committed files.
        tenants: Tenants whose jobs need it; empty if it stays only because of a recent use.
    """

    artifact: Artifact
    bytes: int
    tenants: frozenset[str]


@dataclass(frozen=True)
class Survey:
    """Artefacts of a storage: those that can be removed, and those that stay."""

    removable: tuple[Removable, ...]
    kept: tuple[Kept, ...]


def builds_in(text: str) -> Iterator[tuple[Name, str]]:
    """Find the paths of builds in a text: for each the artefact's name and the build's folder."""
    for found in _BUILD.finditer(text):
        yield (found["stage"], found["fingerprint"]), found[0]


def survey(storage: Storage, holders: Mapping[str, Holder], unused_since: datetime) -> Survey:
    """List all artefacts; nothing is changed.

    Args:
        storage: The storage that holds them.
        holders: All jobs in the database, by id, read before this call.
        unused_since: Artefacts used or written after this time stay.
    """
    places = _places(storage)
    artefacts = {name: place for name, place in places.items() if place.artifact is not None}
    tenants = _needed(artefacts, holders, unused_since)
    named = frozenset(build for holder in holders.values() for build in holder.builds)
    removable: list[Removable] = []
    for name, place in places.items():
        if name in artefacts and name not in tenants:
            removable.append(place.as_a_whole())
        else:
            removable.extend(one for one in place.leftovers(holders, unused_since) if one.path not in named)
    kept = (
        Kept(place.artifact, place.committed_bytes, frozenset(tenants[name]))
        for name, place in artefacts.items()
        if name in tenants and place.artifact is not None
    )
    return Survey(tuple(removable), tuple(kept))


def remove(storage: Storage, found: Iterable[Removable], unused_since: datetime) -> Iterator[Removable]:
    """Remove what a survey found, and yield each removed item; artefacts used since the survey stay.

    The manifest is removed first. So after an interruption the folder is not an artefact any more, and the next
    pruning removes it.
    """
    for one in found:
        if one.committed and not _remove_unused_manifest(storage, one.path, unused_since):
            continue
        storage.remove(one.path)
        yield one


def _remove_unused_manifest(storage: Storage, folder: str, unused_since: datetime) -> bool:
    """Remove an artefact's manifest unless the artefact has been used since; return whether it was removed."""
    manifest = f"{folder}/{MANIFEST}"
    try:
        content = storage.read_bytes(manifest)
    except FileNotFoundError:  # another pruning is removing it
        return False
    storage.remove(manifest)
    used = storage.modified(f"{folder}/{MARK}")
    if used is None or used < unused_since:
        return True
    storage.write_bytes(manifest, content)  # a run has used it in the meantime
    return False


@dataclass
class _Part:
    """Files of one attempt in an artefact's folder, in a folder of their own; or a single file of no attempt."""

    path: str
    job: str | None
    attempt: int | None
    files: list[StoredFile] = field(default_factory=list)

    @property
    def is_build(self) -> bool:
        return self.path.rpartition("/")[0].endswith("/builds")

    def is_kept_by(self, holder: Holder | None) -> bool:
        if holder is None or not holder.may_go_on:
            return False
        # The next attempt continues from checkpoints and scores, but never from a partial build.
        return not self.is_build or self.attempt == holder.running


@dataclass
class _Place:
    """A folder ``artifacts/<stage>/<name>``."""

    path: str
    artifact: Artifact | None = None
    files: list[StoredFile] = field(default_factory=list)
    parts: dict[str, _Part] = field(default_factory=dict)

    @property
    def used(self) -> datetime:
        return max(file.modified for file in self.files)

    @property
    def committed_bytes(self) -> int:
        assert self.artifact is not None
        committed = self.parts.get(self.artifact.files)
        return sum(file.bytes for file in committed.files) if committed is not None else 0

    def as_a_whole(self) -> Removable:
        return Removable(self.path, sum(file.bytes for file in self.files), self.used, committed=True)

    def leftovers(self, holders: Mapping[str, Holder], unused_since: datetime) -> Iterator[Removable]:
        """Parts that belong to no artefact and that no job can use."""
        for part in self.parts.values():
            used = max(file.modified for file in part.files)
            committed = self.artifact is not None and part.path == self.artifact.files
            holder = holders.get(part.job) if part.job is not None else None
            if not committed and used < unused_since and not part.is_kept_by(holder):
                yield Removable(part.path, sum(file.bytes for file in part.files), used, committed=False)


def _places(storage: Storage) -> dict[Name, _Place]:
    places: dict[Name, _Place] = {}
    for file in storage.files(ROOT):
        stage, _, rest = file.path.partition("/")
        name = rest.partition("/")[0]
        places.setdefault((stage, name), _Place(f"{ROOT}/{stage}/{name}")).files.append(file)
    for place in places.values():
        own = {f"{place.path}/{MANIFEST}", f"{place.path}/{MARK}"}
        if f"{place.path}/{MANIFEST}" in {f"{ROOT}/{file.path}" for file in place.files}:
            with contextlib.suppress(FileNotFoundError):  # another pruning is removing it
                place.artifact = read_manifest(storage, place.path)
        for file in place.files:
            part = _part_of(f"{ROOT}/{file.path}")
            if place.artifact is None or part.path not in own:
                place.parts.setdefault(part.path, part).files.append(file)
    return places


def _part_of(path: str) -> _Part:
    steps = path.split("/")
    for index, step in enumerate(steps):
        if (found := _BUILDER.fullmatch(step)) is not None:
            return _Part("/".join(steps[: index + 1]), found["job"], int(found["attempt"]))
    return _Part("/".join(steps[:5]) if steps[3] == "builds" else path, None, None)


def _needed(
    artefacts: Mapping[Name, _Place], holders: Mapping[str, Holder], unused_since: datetime
) -> dict[Name, set[str]]:
    """Map each artefact that stays to the tenants whose jobs need it."""
    roots: dict[Name, set[str]] = defaultdict(set)
    for holder in holders.values():
        for name in holder.named:
            roots[name].add(holder.tenant)
    for name, place in artefacts.items():
        assert place.artifact is not None
        if (builder := holders.get(place.artifact.job)) is not None:
            roots[name].add(builder.tenant)
        if place.used >= unused_since:
            roots[name] |= set()  # stays because of its recent use
    made_from = _sources(artefacts)
    tenants: dict[Name, set[str]] = {}
    waiting = [(name, of) for name, of in roots.items() if name in artefacts]
    while waiting:
        name, of = waiting.pop()
        if name in tenants and of <= tenants[name]:
            continue
        tenants[name] = tenants.get(name, set()) | of
        waiting.extend((source, tenants[name]) for source in made_from[name])
    return tenants


def _sources(artefacts: Mapping[Name, _Place]) -> dict[Name, set[Name]]:
    """Map each artefact to its sources. Inputs name artefacts by fingerprint, and teachers by that of their files."""
    known: dict[str, set[Name]] = defaultdict(set)
    for (stage, fingerprint), place in artefacts.items():
        assert place.artifact is not None
        known[fingerprint].add((stage, fingerprint))
        if stage == "teacher":
            known[str(place.artifact.inputs.get("files"))].add((stage, fingerprint))
    return {
        name: {source for text in _texts(place.artifact.inputs) for source in known.get(text, ())} - {name}
        for name, place in artefacts.items()
        if place.artifact is not None
    }


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
