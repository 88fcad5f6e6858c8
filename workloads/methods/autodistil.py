"""AutoDistil (arXiv 2201.12507): few-shot, task-agnostic search by one weight-sharing SuperLM a sub-space."""

from __future__ import annotations

from workloads.answers.trained import Trained
from workloads.methods.stages import TrainingStages


def autodistil(stages: TrainingStages) -> Trained:
    """Walk the road of the paper's figure 1.

    Returns:
        What every budget is answered from.

    Raises:
        InputError: The request, or what it points to, cannot be worked with.
    """
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    corpus = stages.corpus(teacher)
    superlms = stages.train(teacher, corpus, spaces)
    scores = stages.search(teacher, corpus, spaces, superlms)
    return Trained(teacher, corpus, tuple(spaces), superlms, scores)
