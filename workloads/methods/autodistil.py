"""AutoDistil (arXiv 2201.12507): few-shot, task-agnostic search by one weight-sharing SuperLM a sub-space."""

from __future__ import annotations

from workloads.methods.answering import Answer, answer
from workloads.methods.stages import Stages
from workloads.request import CompressionRequest
from workloads.trained import Trained


def autodistil(request: CompressionRequest, stages: Stages) -> Answer:
    """Walk the road of the paper's figure 1.

    Returns:
        The answer to every budget, and the students of those that can be met.

    Raises:
        InputError: The request, or what it points to, cannot be worked with.
    """
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    corpus = stages.corpus(teacher)
    superlms = stages.train(teacher, corpus, spaces)
    scores = stages.search(teacher, corpus, spaces, superlms)
    return answer(request, stages, Trained(teacher, corpus, tuple(spaces), superlms, scores))
