"""Building a stage once: found if it is there, waited for if another job builds it, built here if neither."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.progress import Progress
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

WAITING = "waiting for another job that builds this"

_log = structlog.get_logger(__name__)


class Building:
    """What one attempt of a job builds, or finds.

    Args:
        storage: Where finished stages are kept.
        job: The job's id.
        builder: Names the job and the attempt.
        progress: Told of every step.
        work: A local folder for copies of artefacts.
        used: Where fingerprints of the stages that the run comes by are put, by stage.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        job: str,
        builder: str,
        progress: Progress,
        work: Path,
        used: dict[str, list[str]],
    ) -> None:
        self._used = used
        self._storage = storage
        self._job = job
        self._builder = builder
        self._progress = progress
        self._work = work

    def once(self, step: str, key: Key, build: Callable[[], Artifact]) -> Artifact:
        """Give the artefact of ``key``, built here only if it is not there and no other job builds it."""
        found = artifacts.find(self._storage, key)
        if found is not None:
            return found
        with self.lease(step, key):
            found = artifacts.find(self._storage, key)
            if found is not None:
                return found
            try:
                return build()
            except BaseException:
                self.clear(key)
                raise

    @contextlib.contextmanager
    def lease(self, step: str, key: Key) -> Iterator[None]:
        """Be the only one that builds ``key``; a step that has to wait says so."""
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            self._progress.note(step, WAITING)

        with lease(key.fingerprint, self._builder, waiting):
            if waited:
                self._progress.note(step, None)
            yield

    def clear(self, key: Key) -> None:
        """Remove what this attempt has left of a stage that it did not finish."""
        # Only room is at stake: without a manifest nothing counts. The error that brought us here is the one to tell.
        try:
            self._storage.remove(artifacts.build_folder(key, self._builder))
        except OSError as error:
            _log.warning("unfinished_stage_not_removed", stage=key.stage, error=str(error))

    def end(self, step: str, *made: Artifact) -> None:
        """Note which artefacts a step has come by, and whether it built any of them."""
        for artifact in made:
            known = self._used.setdefault(artifact.stage, [])
            if artifact.fingerprint not in known:
                known.append(artifact.fingerprint)
        try:
            self._progress.stored(artifacts.bytes_built(self._storage, self._used, self._job))
        except OSError as error:  # the work is worth more than the account of it
            _log.warning("stored_bytes_not_counted", step=step, error=str(error))
        if made and all(artifact.builder != self._builder for artifact in made):
            self._progress.reuse(step)
        else:
            self._progress.finish(step)

    def local(self, artifact: Artifact) -> Path:
        """The artefact's files on this machine: in place where the storage is local, else a copy made once."""
        if self._storage.local:
            return Path(self._storage.path(artifact.files))
        folder = self._work / artifact.stage / artifact.fingerprint
        return folder if folder.exists() else self._storage.download(artifact.files, folder)
