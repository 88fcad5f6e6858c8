"""The scene: teacher, text and held-out rows, opened once a process."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch

from benchmarks.quality.places import Places
from workloads.craft.blocks import Blocks
from workloads.craft.importance import Order, importance_order
from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.scoring import Heldout, heldout_batches, rows_at_once
from workloads.craft.signals import Batch
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.spec.request import CorpusSpec, ObjectiveSpec
from workloads.storage.artifacts import Artifact, find, load

_CALIBRATION_BATCHES = 8


class Scene:
    """Teacher, text and objective of a profile.

    Args:
        inputs: Inputs of the scene's piece.
        places: Where the files are.
    """

    def __init__(self, inputs: dict[str, Any], places: Places) -> None:
        self.places, self.storage = places, places.storage
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.length, self.batch_size = int(inputs["sequence_length"]), int(inputs["batch_size"])
        self._seed, self._heldout_rows = int(inputs["seed"]), int(inputs["heldout_rows"])
        self.teacher: Teacher = open_teacher(places.teacher(inputs["teacher"]))
        self.teacher.model.to(self.device)
        self.objective: Objective = objective_for(ObjectiveSpec(**inputs["objective"]), self.teacher.shape)
        self.corpus = self._prepare(CorpusSpec(paths=[str(places.data / "corpus" / inputs["corpus"])]))

    def facts(self) -> dict[str, Any]:
        """Facts of the scene that later pieces and reports read from its row, without its files."""
        return {
            "teacher": self.teacher.shape.to_json(),
            "teacher_fingerprint": self.teacher.fingerprint,
            "corpus_fingerprint": self.corpus.fingerprint,
            "corpus_tokens": self.corpus.summary["sides"]["train"]["tokens"],
        }

    @functools.cached_property
    def order(self) -> Order:
        """The order of the teacher's parts by importance."""
        with closing(self.batches(self._seed, 0)) as batches:
            return importance_order(self.teacher, list(itertools.islice(batches, _CALIBRATION_BATCHES)))

    @functools.cached_property
    def heldout(self) -> Heldout:
        """The teacher's signals on the held-out rows that models are scored on."""
        blocks = Blocks.open(self.storage, self.corpus, "heldout")
        rows = blocks.read(range(min(self._heldout_rows, blocks.rows)))
        batches = heldout_batches(rows, rows_at_once(self.objective, self.length, self.batch_size))
        return Heldout.read(self.teacher, self.objective, [batch.to(self.device) for batch in batches])

    def heldout_in_rungs(self, rungs: tuple[int, ...]) -> Heldout:
        """The same, in batches that reach across no rung of a search."""
        rows = Blocks.open(self.storage, self.corpus, "heldout").read(range(rungs[-1]))
        batches = heldout_batches(rows, rows_at_once(self.objective, self.length, self.batch_size), rungs)
        return Heldout.read(self.teacher, self.objective, [batch.to(self.device) for batch in batches])

    @property
    def heldout_count(self) -> int:
        """Held-out rows of the corpus, at most as many as models are scored on."""
        return min(self._heldout_rows, Blocks.open(self.storage, self.corpus, "heldout").rows)

    def batches(self, seed: int, first: int) -> Generator[Batch, None, None]:
        """Yield training batches in the order of a seed, from the number ``first``, without end."""
        blocks = Blocks.open(self.storage, self.corpus, "train")
        for rows in blocks.batches(seed, self.batch_size, first):
            yield Batch(torch.as_tensor(rows.input_ids), None if rows.mask is None else torch.as_tensor(rows.mask))

    def _prepare(self, spec: CorpusSpec) -> Artifact:
        if self.places.tokenised is not None:
            return load(self.storage, "corpus", self.places.tokenised)
        from workloads.runs.attempt.run import News  # of Ray, which a machine that has the corpus need not have
        from workloads.runs.corpus import DIRECT_BYTES, plan_corpus, prepare_corpus

        plan = plan_corpus(spec, Tokenizer.load(self.teacher.folder), self.length, self.objective.layout)
        if (found := find(self.storage, plan.key)) is not None:
            return found
        from benchmarks.demo_scene import local_ray

        small = plan.size is not None and plan.size < DIRECT_BYTES
        with contextlib.nullcontext() if small else local_ray():  # the product tokenises larger corpora on Ray
            return prepare_corpus(self.storage, plan, self.batch_size, "quality-1", News.unheard())
