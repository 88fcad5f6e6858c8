"""Probes on a corpus's held-out rows."""

from __future__ import annotations

from workloads.craft.blocks import Blocks
from workloads.craft.fidelity.probe import Probe
from workloads.craft.scoring import heldout_batches
from workloads.craft.teacher import Teacher
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage


def read_probe(storage: Storage, teacher: Teacher, corpus: Artifact, rows: int, batch_size: int) -> Probe:
    """Read the first held-out rows of a corpus, and run the teacher on them.

    Args:
        storage: The storage of the corpus.
        teacher: A teacher with a head.
        corpus: The corpus.
        rows: Most rows.
        batch_size: Rows of a batch.
    """
    blocks = Blocks.open(storage, corpus, "heldout")
    return Probe.read(teacher, heldout_batches(blocks.read(range(min(rows, blocks.rows))), batch_size))
