"""Pruning by the database: it finds the artefacts that jobs need, and frees tenants' bytes of removed ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.access.quotas import give_back
from services.jobs.rows import Sessions, now
from services.jobs.states import JobStatus
from services.jobs.tables import ForgottenJobRow, JobRow
from workloads.documents.job_folder import JobFolder
from workloads.spec.errors import InputError
from workloads.storage.artifacts import MARK_SECONDS
from workloads.storage.storage import Storage
from workloads.storage.sweep import Holder, Kept, Name, Removable, builds_in, remove, survey

SHORTEST = timedelta(seconds=1.5 * MARK_SECONDS)
"""Smallest ``older_than``: uses are recorded at least this often, and clocks differ a little."""
_RUNS = (JobStatus.RUNNING, JobStatus.CANCELLING)


@dataclass(frozen=True)
class Pruned:
    """Result of a pruning, or of a dry run.

    Attributes:
        removed: The removed artefacts.
        kept: Number of artefacts that stay.
        given_back: Bytes of deleted jobs that no longer count, by tenant.
        unused_since: Time; artefacts used after it stay.
    """

    removed: tuple[Removable, ...]
    kept: int
    given_back: dict[str, int]
    unused_since: datetime

    @property
    def bytes(self) -> int:
        """Bytes of all removed artefacts."""
        return sum(one.bytes for one in self.removed)


def prune(engine: Engine, storage: Storage, older_than: timedelta, *, dry_run: bool = False) -> Pruned:
    """Remove artefacts that no job in the database needs, and give their bytes back to the tenants.

    Jobs may run meanwhile: artefacts used since the oldest running attempt began stay.

    Args:
        engine: The database of the storage's service, migrated.
        storage: The storage.
        older_than: Age; artefacts used more recently stay.
        dry_run: Whether to change nothing.

    Raises:
        InputError: ``older_than`` is too short, or the storage does not belong to the database.
    """
    if older_than < SHORTEST:
        raise InputError.of("older_than", f"{older_than} is too short.", f"Give {SHORTEST} or more.")
    sessions = Sessions(engine)
    unused_since = now() - older_than
    holders: dict[str, Holder] = {}
    with sessions.reading() as session:
        for job_id, holder, since in _holders(session):
            holders[job_id] = holder
            if since is not None:
                # A run marks its artefacts as used, unless they have a mark of the last MARK_SECONDS. So their marks
                # may be that much older than its start.
                unused_since = min(unused_since, since - SHORTEST)
    _check_same(storage, holders)
    found = survey(storage, holders, unused_since)
    removed = found.removable if dry_run else tuple(remove(storage, found.removable, unused_since))
    # A dry run only reads: changes of its session are discarded.
    with sessions.reading() if dry_run else sessions.writing() as session, session.no_autoflush:
        given_back = _give_back(session, found.kept, holders)
    return Pruned(removed, len(found.kept), given_back, unused_since)


def _holders(session: Session) -> Iterator[tuple[str, Holder, datetime | None]]:
    """Yield all jobs, with the artefacts that each needs, and the start of its running attempt."""
    for row in session.scalars(select(JobRow).execution_options(yield_per=100)):
        named: set[Name] = set()
        if row.scores is not None:
            named.add(("scores", row.scores))
        for stage, fingerprints in (row.result or {}).get("artifacts", {}).items():
            named |= {(stage, fingerprint) for fingerprint in fingerprints}
        paths = list(builds_in(json.dumps([row.request, row.result, row.answer])))
        holder = Holder(
            row.tenant,
            frozenset(named | {name for name, _ in paths}),
            frozenset(build for _, build in paths),
            may_go_on=row.status != JobStatus.SUCCEEDED,
        )
        runs = row.status in _RUNS
        yield (
            row.id,
            replace(holder, running=row.attempt) if runs else holder,
            row.attempts[-1].started_at if runs else None,
        )


def _check_same(storage: Storage, holders: dict[str, Holder]) -> None:
    """Refuse to prune if the database does not know the storage's jobs, since all artefacts would seem unneeded."""
    folders = {job: JobFolder(storage, job) for job in storage.list("jobs") if job not in holders}
    # A late run of a deleted job may have written events; a request file exists only while its job does.
    strange = [job for job, folder in folders.items() if storage.exists(folder.path("request.json"))]
    if strange:
        raise InputError.of(
            "storage",
            f"The storage has a folder of {strange[0]}, which the database does not know ({len(strange)} in all).",
            "Set STILLROOM_DATABASE or STILLROOM_STATE_FOLDER to the database of this storage's service; "
            f"if it is the right one, remove {folders[strange[0]].path('')}.",
        )


def _give_back(session: Session, kept: tuple[Kept, ...], holders: dict[str, Holder]) -> dict[str, int]:
    """Free the bytes of deleted jobs, except of artefacts that stay and are needed by the tenant's jobs or by none."""
    forgotten = {row.id: row.tenant for row in session.scalars(select(ForgottenJobRow))}
    left: dict[str, int] = {}
    for one in kept:
        job = one.artifact.job
        if job in forgotten:
            counts = not one.tenants or forgotten[job] in one.tenants
            left[job] = left.get(job, 0) + (one.bytes if counts else 0)
    known = forgotten.keys() | holders.keys()
    return give_back(session, left, all_known=all(one.artifact.job in known for one in kept))
