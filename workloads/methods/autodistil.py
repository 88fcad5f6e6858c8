"""AutoDistil (arXiv 2201.12507): few-shot, task-agnostic search by one weight-sharing SuperLM a sub-space."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.answers.trained import Trained
from workloads.methods.method import register_method
from workloads.methods.stages import TrainingStages
from workloads.methods.steps import SEARCH, train_step
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.shapes.spaces import spaces_for
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.errors import InputError
from workloads.spec.search import MOST_CANDIDATES


class AutoDistil:
    """AutoDistil as a :class:`~workloads.methods.method.Method`: the spaces, steps and tokens of its requests."""

    request_type = AutoDistilRequest

    def fit(self, request: AutoDistilRequest, shape: TeacherShape) -> Sequence[Space]:
        """Lay out the sub-spaces.

        Raises:
            InputError: They do not fit the teacher, they hold more candidates than an exhaustive search takes, or the
                relation heads do not fit the narrowest student.
        """
        spaces = spaces_for(request.subspaces, shape)
        count = sum(map(len, spaces))
        if request.search.searcher == "exhaustive" and count > MOST_CANDIDATES:
            raise InputError.of(
                "search.searcher",
                f"The sub-spaces hold {count:,} candidates; 'exhaustive' scores at most {MOST_CANDIDATES:,}.",
                "Use the searcher 'random' or 'evolutionary' with a number of 'candidates', or smaller sub-spaces.",
            )
        return spaces

    def steps(self, request: AutoDistilRequest) -> list[str]:
        """Return one training step for each sub-space, then the search."""
        return [*map(train_step, request.subspaces.names), SEARCH]

    def training_tokens(self, request: AutoDistilRequest) -> int:
        """Return the training tokens of all SuperLMs."""
        return request.superlm_tokens


def autodistil(stages: TrainingStages) -> Trained:
    """Run the stages up to the scores, as in figure 1 of the paper.

    Returns:
        The artefacts that every budget is answered from.

    Raises:
        InputError: The request, or a file or model that it names, cannot be used.
    """
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    corpus = stages.corpus(teacher)
    superlms = stages.train(teacher, corpus, spaces)
    scores = stages.search(teacher, corpus, spaces, superlms)
    return Trained(teacher, corpus, tuple(spaces), superlms, scores)


register_method(AutoDistil())
