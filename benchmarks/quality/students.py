"""The chosen student of each budget, and the baselines that it is compared with. Light to import."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality import shapes
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Entry, Planner
from workloads.answers.choosing import Scored
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace

BEST_HAND_MADE = 2
"""So many of the hand-made students, the best on rows set aside, are fine-tuned with every seed."""
DISTILLATION_SEEDS = (1, 2)
"""Seeds beside 0, which all others have."""


def add_students(planner: Planner) -> None:
    """Put the models of a profile's roles into the plan."""
    profile, shape = planner.profile, planner.shape
    if not profile.roles:
        return
    superlms = planner.distil("SuperLMs", planner.spaces, profile.tokens)
    search = planner.search(superlms)
    whole = ListedSpace("student", (shape.architecture,))
    untrained = planner.distil("the teacher", [whole], 0)
    tuning = profile.tuning | {"learning_rates": list(profile.teacher_rates)}
    planner.entry("teacher", None, untrained, shape.architecture, tuning=tuning)
    found = planner.row(search)
    if found is None or planner.row(superlms) is None:
        planner.plan.later.append(f"the students at {', '.join(f'{one:.3g}' for one in profile.fractions)}")
        return
    survivors = shapes.survivors_of(found.result)
    for number, fraction in enumerate(profile.fractions):
        _Budget(planner, fraction, shapes.chosen(shape, survivors, fraction), superlms, search).add(first=number == 0)
    if "polished" in profile.roles:
        _add_polished(planner)


def _add_polished(planner: Planner) -> None:
    """Add the students that are chosen from SuperLMs of fewer tokens, and trained alone on the tokens that are left."""
    profile, shape = planner.profile, planner.shape
    own = round(profile.tokens * profile.polish_share)
    superlms = planner.distil("SuperLMs, before the polish", planner.spaces, profile.tokens - own)
    search = planner.search(superlms)
    found = planner.row(search)
    if found is None:
        planner.plan.later.append("the polished students")
        return
    survivors = shapes.survivors_of(found.result)
    for fraction in profile.fractions:
        chosen = shapes.chosen(shape, survivors, fraction)
        one = chosen.architecture
        distil = planner.polish(f"polish at {fraction:.3g}: {one.describe()}", superlms, chosen.subspace, one, own)
        planner.entry("chosen, polished", fraction, distil, one, paid=(superlms, search, distil))


class _Budget:
    """The models of one budget."""

    def __init__(self, planner: Planner, fraction: float, chosen: Scored, superlms: Piece, search: Piece) -> None:
        self.planner, self.fraction, self.chosen = planner, fraction, chosen
        self.superlms, self.search = superlms, search
        self.target = shapes.macs_of(planner.shape, chosen.architecture)

    def add(self, *, first: bool) -> None:
        roles, planner = self.planner.profile.roles, self.planner
        if "chosen" in roles:
            planner.entry(
                "chosen",
                self.fraction,
                self.superlms,
                self.chosen.architecture,
                member=self.chosen.subspace,
                paid=(self.superlms, self.search),
                search=self.search,
            )
        if "alone" in roles:
            self._alone("alone", self.chosen.architecture)
        best = self._hand_made() if "hand-made" in roles else []
        if "truncated" in roles:
            one = shapes.truncated(planner.shape, self.target)
            self._alone("truncated teacher", one, tokens=0)
        if "random" in roles:
            self._random_choices()
        if "random weights" in roles:
            self._alone("random weights, not distilled", self.chosen.architecture, tokens=0, initial="random")
            self._alone("random weights", self.chosen.architecture, initial="random")
        if "autotinybert" in roles:
            self._alone("AutoTinyBERT's objective", self.chosen.architecture, objective="autotinybert")
        if "equal bill" in roles:
            self._equal_bills(best)
        if "distillation seeds" in roles and first:
            for seed in DISTILLATION_SEEDS:
                self._alone(f"alone, distillation seed {seed}", self.chosen.architecture, seed=seed)

    def _alone(
        self,
        role: str,
        one: Architecture,
        *,
        tokens: int | None = None,
        initial: str = "teacher",
        objective: str = "relation",
        seed: int = 0,
    ) -> Entry:
        tokens = self.planner.profile.tokens if tokens is None else tokens
        name = f"{role} at {self.fraction:.3g}: {one.describe()}"
        distil = self.planner.alone(name, one, tokens, initial=initial, objective=objective, seed=seed)
        return self.planner.entry(role, self.fraction, distil, one)

    def _hand_made(self) -> list[tuple[str, Architecture]]:
        """Return the best hand-made shapes, by fine-tuning with the first seed and scoring on rows set aside."""
        planner = self.planner
        first = planner.profile.seeds[0]
        ranked: list[tuple[float, str, Architecture]] = []
        waiting = False
        for kind, one in shapes.hand_made(planner.shape, self.target):
            distil = planner.alone(f"{kind} at {self.fraction:.3g}: {one.describe()}", one, planner.profile.tokens)
            tried = planner.entry(f"{kind}, tried", self.fraction, distil, one, seeds=[first], shown=False)
            rows = [planner.row(piece) for piece in tried.tasks]
            if any(row is None for row in rows):
                waiting = True
                continue
            aside = float(np.mean([row.result["validation_score"] for row in rows if row is not None]))
            ranked.append((aside, kind, one))
        if waiting:
            planner.plan.later.append(f"the best hand-made students at {self.fraction:.3g}, with every seed")
            return []
        ranked.sort(key=lambda item: -item[0])
        best = [(kind, one) for _, kind, one in ranked[:BEST_HAND_MADE]]
        for kind, one in best:
            self._alone(f"hand-made, {kind}", one)
        return best

    def _random_choices(self) -> None:
        """Take members of the spaces at random, from the SuperLMs as the chosen student is."""
        planner = self.planner
        drawn = shapes.random_choices(planner.shape, planner.spaces, self.target, 3, without=self.chosen.architecture)
        for number, (space, one) in enumerate(drawn, start=1):
            self.planner.entry(
                f"random choice {number}",
                self.fraction,
                self.superlms,
                one,
                member=space,
                search=self.search,
            )

    def _equal_bills(self, hand_made: Sequence[tuple[str, Architecture]]) -> None:
        """Distil for as long as the SuperLMs' and the search's CPU-seconds allow, divided by a number of budgets."""
        planner = self.planner
        superlms, search = planner.row(self.superlms), planner.row(self.search)
        assert superlms is not None and search is not None
        bill = superlms.result["train_cpu_seconds"] + search.cpu_seconds
        rivals: list[tuple[str, Architecture, str, str]] = [
            ("alone", self.chosen.architecture, "teacher", "relation"),
            ("random weights", self.chosen.architecture, "random", "relation"),
            ("AutoTinyBERT's objective", self.chosen.architecture, "teacher", "autotinybert"),
            *((f"hand-made, {kind}", one, "teacher", "relation") for kind, one in hand_made),
        ]
        for role, one, initial, objective in rivals:
            tokens = planner.profile.tokens
            name = f"{role} at {self.fraction:.3g}: {one.describe()}"
            equal = planner.alone(name, one, tokens, initial=initial, objective=objective)
            row = planner.row(equal)
            if row is None:
                planner.plan.later.append(f"{role} at {self.fraction:.3g}, for equal bills")
                continue
            for budgets in planner.profile.bills:
                afforded = int(bill / budgets / (row.result["train_cpu_seconds"] / equal.inputs["tokens"]))
                self._alone(
                    f"{role}, bill / {budgets}", one, tokens=max(1, afforded), initial=initial, objective=objective
                )
