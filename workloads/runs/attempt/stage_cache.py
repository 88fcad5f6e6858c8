"""Cache of finished stages: finds a stage, waits while another job builds it, or builds it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.run import Run
from workloads.runs.attempt.stage_log import StageLog
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key

WAITING = "waiting for another job that builds this"

_log = structlog.get_logger(__name__)


class StageCache:
    """Cache of a storage's finished stages, for one attempt of a job.

    Args:
        run: The attempt.
        log: Records every stage that the attempt uses.
        work: A local folder for copies of artefacts.
    """

    def __init__(self, run: Run, log: StageLog, work: Path) -> None:
        self._storage, self._builder, self._progress = run.storage, run.builder, run.progress
        self._log = log
        self._work = work

    def get_or_build(self, step: str, key: Key, build: Callable[[], Artifact]) -> Artifact:
        """Return the artefact of ``key``; build it only if it does not exist and no other job builds it."""
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
                self.discard(key)
                raise

    @contextlib.contextmanager
    def lease(self, step: str, key: Key) -> Iterator[None]:
        """Hold the lease on building ``key``; while another job holds it, the step's note says so."""
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            self._progress.note(step, WAITING)

        with lease(key.fingerprint, self._builder, waiting):
            if waited:
                self._progress.note(step, None)
            yield

    def discard(self, key: Key) -> None:
        """Remove the files of a stage that this attempt did not finish."""
        # Best effort: leftovers without a manifest only cost space. Keep the original error.
        try:
            self._storage.remove(artifacts.build_folder(key, self._builder))
        except OSError as error:
            _log.warning("unfinished_stage_not_removed", stage=key.stage, error=str(error))

    def record(self, step: str, *made: Artifact) -> None:
        """End a step with its artefacts; it counts as reused if this attempt built none of them."""
        self._log.record(*made)
        if (stored := self._log.bytes_built()) is not None:
            self._progress.stored(stored)
        if made and all(artifact.builder != self._builder for artifact in made):
            self._progress.reuse(step)
        else:
            self._progress.finish(step)

    def local(self, artifact: Artifact) -> Path:
        """Return a local folder of an artefact's files: the storage's own if it is local, else a cached copy."""
        if self._storage.local:
            return Path(self._storage.path(artifact.files))
        folder = self._work / artifact.stage / artifact.fingerprint
        return folder if folder.exists() else self._storage.download(artifact.files, folder)
