"""Record of the finished stages that an attempt uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import structlog

from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

_log = structlog.get_logger(__name__)


class StageLog:
    """Record of the artefacts that an attempt has built or found, each once.

    Args:
        storage: The storage of the artefacts.
        job: The job's id.
    """

    def __init__(self, storage: Storage, job: str) -> None:
        self._storage, self._job = storage, job
        self._stages: dict[str, list[str]] = {}

    def record(self, *made: Artifact) -> None:
        """Add artefacts."""
        for one in made:
            self.record_fingerprints({one.stage: [one.fingerprint]})

    def record_fingerprints(self, stages: Mapping[str, Sequence[str]]) -> None:
        """Add artefacts by stage."""
        for stage, fingerprints in stages.items():
            known = self._stages.setdefault(stage, [])
            known.extend(one for one in dict.fromkeys(fingerprints) if one not in known)

    def fingerprints(self, students: Collection[str] | None = None) -> dict[str, list[str]]:
        """Return the fingerprints by stage.

        Args:
            students: Fingerprints of the students to include; None for all.
        """
        kept = {
            stage: [one for one in found if stage != "student" or students is None or one in students]
            for stage, found in self._stages.items()
        }
        return {stage: found for stage, found in kept.items() if found}

    def bytes_built(self) -> int | None:
        """Count the bytes of the artefacts that the job's attempts have built; None if they cannot be counted."""
        try:
            return artifacts.bytes_built(self._storage, self._stages, self._job)
        except OSError as error:  # a missing count must not fail the work
            _log.warning("stored_bytes_not_counted", error=str(error))
            return None
