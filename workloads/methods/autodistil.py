"""AutoDistil (arXiv 2201.12507): few-shot, task-agnostic search by one weight-sharing SuperLM a sub-space."""

from __future__ import annotations

from workloads.choosing import Choice, choose
from workloads.job_folder import StudentDocument
from workloads.methods.stages import Stages, TeacherStage
from workloads.request import CompressionRequest


def autodistil(request: CompressionRequest, stages: Stages) -> tuple[TeacherStage, list[Choice], list[StudentDocument]]:
    """Walk the road of the paper's figure 1.

    Returns:
        The teacher, the answer to every budget, and the students of those that can be met.

    Raises:
        InputError: The request, or what it points to, cannot be worked with.
    """
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    corpus = stages.corpus(teacher)
    superlms = stages.train(teacher, corpus, spaces)
    scored = stages.search(teacher, corpus, spaces, superlms)
    choices = [choose(scored, budget, teacher.cost) for budget in request.budgets]
    return teacher, choices, stages.students(teacher, corpus, superlms, choices)
