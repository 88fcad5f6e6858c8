"""Pieces of the bench: the unit that is run, kept as a row, and not run again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from workloads.storage.artifacts import Key

SCHEMA = 1
"""Raise it when a change of the code changes the results of pieces that are there; all rows are then made anew."""

Kind = Literal["scene", "labels", "distil", "search", "inside", "task", "untuned"]


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of work with one result.

    Attributes:
        kind: ``scene``: teacher and corpus are opened, and their facts kept. ``labels``: the labels of a task's
            validation rows. ``distil``: models are trained (for 0 tokens: only cut). ``search``: all candidates of
            trained SuperLMs are scored in rungs. ``inside``: some subnets of SuperLMs are scored. ``task``: a model is
            fine-tuned and scored with one seed. ``untuned``: a model is scored on similarities without fine-tuning.
        name: Name for people; it is not part of the fingerprint.
        inputs: JSON-like values that decide the result; other pieces by their fingerprints.
        needs: Pieces whose rows must exist before this piece runs.
        seconds: Estimate of its CPU-seconds.
    """

    kind: Kind
    name: str
    inputs: dict[str, Any]
    needs: tuple[Piece, ...] = ()
    seconds: float = 1.0

    @property
    def key(self) -> Key:
        """Key of the piece's files in the work folder."""
        return Key(f"quality-{self.kind}", {"schema": SCHEMA, **self.inputs})

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides the result: profile settings, model, shape, tokens, seeds, recipe, task, schema."""
        return self.key.fingerprint
