"""The base of terms that compare the outputs of the heads of teacher and student."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from workloads.craft.signals import Batch, Signals, Wants


@dataclass(frozen=True)
class HeadOutput:
    """A term that reads the head's output alone: logits ``[B, C]`` or ``[B, L, C]``, or vectors ``[B, V]``."""

    def teacher_wants(self) -> Wants:
        """Return the output of the head."""
        return Wants(head=True)

    def student_wants(self, layers: int) -> Wants:
        """Return the output of the head."""
        return Wants(head=True)

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Tensor:
        """Return the output of the teacher's head."""
        assert teacher.head is not None
        return teacher.head.float()
