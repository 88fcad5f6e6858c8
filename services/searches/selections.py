"""Selections: answers to new budgets from a finished compression's scores table, without training and Ray.

A job of the kind ``selection`` then makes the students' files; until then the students are shown as pending. If all
files exist, or no student was chosen, no run is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.jobs.records import Job
from services.searches.finished import Known, Searches
from workloads.answers.choosing import Choice, Scored, choose, rank
from workloads.answers.fidelity import Fidelity, shortfalls
from workloads.answers.latency_model import LatencyModels
from workloads.answers.scores_table import Candidate
from workloads.answers.student_key import student_key
from workloads.documents.answers import infeasible_documents, pending_documents, student_document
from workloads.documents.job_folder import ResultDocument
from workloads.methods.fidelity import fidelity_rows
from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import Budget
from workloads.spec.request import CompressionRequest
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage


@dataclass(frozen=True)
class Answer:
    """An answer to new budgets without a run.

    Attributes:
        known: The search that the answer comes from.
        choices: Choices for the budgets that can be answered, in their order.
        unanswered: Names of the other budgets; nothing was measured on their latency target yet.
        provisional: Whether a run may still change the answer.
        made: Artefacts of the chosen students if all exist, so that no run is needed; else None.
    """

    known: Known
    choices: tuple[Choice, ...]
    unanswered: tuple[str, ...]
    provisional: bool
    made: tuple[Artifact, ...] | None

    def at_once(self, job: str) -> dict[str, Any]:
        """Make the document of the selection with that id, valid until a run has ended."""
        students = pending_documents(job, self.choices, self.known.cost_of)
        infeasible = infeasible_documents(self.choices, self.known.cost_of)
        return {
            "students": [student.model_dump(mode="json") for student in students],
            "infeasible": [one.model_dump(mode="json") for one in infeasible],
            "unanswered": list(self.unanswered),
            "provisional": self.provisional,
            "note": self.known.note,
        }

    def result(self, job: str) -> ResultDocument:
        """Make the result of the selection with that id, if no run is needed."""
        assert self.made is not None
        cost_of = self.known.cost_of
        met = [(choice.budget, choice.chosen) for choice in self.choices if choice.chosen is not None]
        return ResultDocument(
            status="succeeded",
            students=[
                student_document(
                    job,
                    budget,
                    chosen,
                    cost_of,
                    exports=folder.summary.get("exports", {}),
                    fidelity=folder.summary.get("fidelity"),
                    files=folder.files,
                )
                for (budget, chosen), folder in zip(met, self.made, strict=True)
            ],
            infeasible=infeasible_documents(self.choices, cost_of),
            artifacts={"student": list(dict.fromkeys(folder.fingerprint for folder in self.made))} if met else {},
        )


class Selections:
    """Maker of answers to selections.

    Args:
        storage: The storage of artefacts.
        searches: The finished searches.
    """

    def __init__(self, storage: Storage, searches: Searches) -> None:
        self._storage, self._searches = storage, searches

    def answer(self, compression: Job, request: CompressionRequest, measured: Iterable[Job]) -> Answer:
        """Answer the budgets of a request as far as possible without a run.

        Args:
            compression: The compression that answers the budgets.
            request: The request with the budgets.
            measured: Jobs on this compression that may have measured latency.
        """
        known = self._searches.known(compression)
        models = self._models(request, measured)

        def latency_of(architecture: Architecture, budget: Budget) -> float:
            assert budget.latency_target is not None
            return models[budget.latency_target].of(budget.latency_percentile).predict(architecture)

        answered = (one for one in request.budgets if one.latency_target is None or one.latency_target in models)
        choices = [choose(known.choosable, budget, known.cost_of, latency_of) for budget in answered]
        final = request.polish is None
        if request.proxy_task is not None:
            choices, as_fine_tuned = _on_task(
                choices, request.proxy_task.candidates, self._searches.task_scores(compression)
            )
            final = final and as_fine_tuned
        limits_latency = any(budget.latency_target is not None for budget in request.budgets)
        met = [(choice.budget, choice.chosen) for choice in choices if choice.chosen is not None]
        changes = limits_latency or (bool(met) and not final)
        made = None if changes else self._made(known, request, met)
        # A student that is not made yet may fail its floor once it is.
        provisional = changes or (made is None and any(budget.floors for budget, _ in met))
        names = {choice.budget.name for choice in choices}
        return Answer(
            known,
            tuple(choices),
            unanswered=tuple(budget.name for budget in request.budgets if budget.name not in names),
            provisional=provisional,
            made=made,
        )

    def _models(self, request: CompressionRequest, measured: Iterable[Job]) -> dict[str, LatencyModels]:
        """Return the latency predictors of the budgets' targets on which something was measured."""
        named = {budget.latency_target for budget in request.budgets if budget.latency_target is not None}
        wanted = [target for target in request.latency_targets if target.name in named]
        found: dict[str, LatencyModels] = {}
        if wanted:
            for one in self._searches.sampled(measured):
                if one.models.target in wanted:
                    found.setdefault(one.models.target.name, one.models)
                if len(found) == len(wanted):
                    break
        return found

    def _made(
        self, known: Known, request: CompressionRequest, met: Sequence[tuple[Budget, Scored]]
    ) -> tuple[Artifact, ...] | None:
        """Find the students' artefacts; None if one does not exist, or does not reach a floor of its budget."""
        folders = []
        for budget, one in met:
            key = student_key(
                known.trained.scores,
                known.trained.weights(one),
                one.architecture,
                request.export,
                fidelity_rows=fidelity_rows(request, known.trained.teacher.shape),
            )
            folder = artifacts.find(self._storage, key)
            if folder is None or (budget.floors and _missing(folder, budget)):
                return None
            folders.append(folder)
        return tuple(folders)


def _missing(student: Artifact, budget: Budget) -> dict[str, float]:
    """Return the floors of a budget that a saved student does not reach."""
    return shortfalls(Fidelity.model_validate(student.summary["fidelity"]).figures, budget.floors)


def _on_task(choices: Sequence[Choice], count: int, scores: Mapping[Candidate, float]) -> tuple[list[Choice], bool]:
    """Rank by the existing scores on the proxy task.

    Args:
        choices: Choices by loss.
        count: Number of candidates that a run fine-tunes for each budget: the best by loss.
        scores: Scores of fine-tuned candidates, in the order of their fine-tuning.

    Returns:
        The choices, and whether a run would give the same scores.
    """
    finalists = {_key(one): one for choice in choices for one in choice.ranked[:count]}
    # Early stopping depends on the whole set of candidates; with another set the scores may differ.
    as_fine_tuned = list(finalists) == list(scores)
    known = {key: scores[key] for key in finalists if key in scores}
    ranked = []
    for choice in choices:
        own = choice.ranked if as_fine_tuned else choice.ranked[:count]
        scores_of = {key: known[key] for key in map(_key, own) if key in known}
        scored = (
            replace(one, task_score=scores_of[_key(one)]) if _key(one) in scores_of else one for one in choice.ranked
        )
        # A cost that is minimised does not depend on the scores.
        ordered = scored if choice.budget.minimise is not None else sorted(scored, key=rank)
        ranked.append(replace(choice, ranked=tuple(ordered)))
    return ranked, as_fine_tuned


def _key(scored: Scored) -> Candidate:
    return scored.subspace, scored.architecture
