"""Plans in which the students that are distilled alone are trained side by side. Light to import.

A student's weights do not depend on what else its group trains, but for the rounding of sums. A group needs one teacher
forward a batch and fills a GPU better than its members do one after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.quality import shapes
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Entry, Planner
from benchmarks.quality.questions import member_of
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace

_PLAIN: Mapping[str, Any] = {"initial": "teacher", "objective": "relation", "seed": 0, "decay": 0.0}


class GroupedPlanner(Planner):
    """Planner of a profile with one group of the chosen and the hand-made shapes, of all budgets."""

    def alone(self, name: str, one: Architecture, tokens: int, **options: Any) -> Piece:
        """Distil the group that has the shape; shapes with settings of their own are distilled by themselves."""
        plain = all(value == _PLAIN[option] for option, value in options.items())
        if not plain or tokens != self.profile.tokens or one not in self._together:
            return super().alone(name, one, tokens, **options)
        members = [ListedSpace(member_of(each), (each,)) for each in self._together]
        return self.distil("the students alone, together", members, tokens)

    def entry(
        self,
        role: str,
        fraction: float | None,
        distil: Piece,
        one: Architecture,
        *,
        member: str = "student",
        **options: Any,
    ) -> Entry:
        """Fine-tune a model; of a group it is the member of its shape."""
        known = member in distil.inputs["members"]
        return super().entry(role, fraction, distil, one, member=member if known else member_of(one), **options)

    @functools.cached_property
    def _together(self) -> Sequence[Architecture]:
        superlms = self.distil("SuperLMs", self.spaces, self.profile.tokens)
        found = self.row(self.search(superlms))
        if found is None:
            return ()
        survivors, together = shapes.survivors_of(found.result), list[Architecture]()
        for fraction in self.profile.fractions:
            chosen = shapes.chosen(self.shape, survivors, fraction).architecture
            target = shapes.macs_of(self.shape, chosen)
            together += [chosen, *(one for _, one in shapes.hand_made(self.shape, target))]
        return tuple(dict.fromkeys(together))
