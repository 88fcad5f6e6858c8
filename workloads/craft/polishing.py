"""Polishing: a chosen student is distilled alone, by the loop that trained its SuperLM.

The loop is given a space with a single member, so that its sandwich is that one subnet.
"""

from __future__ import annotations

from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace, Space
from workloads.spec.request import CompressionRequest, TrainingSpec


def single_student_space(space: Space, architecture: Architecture) -> ListedSpace:
    """Give the space that holds nothing but one architecture of ``space``, named after both."""
    return ListedSpace(f"{space.name} {architecture.describe()}", (architecture,))


def polish_training(request: CompressionRequest) -> TrainingSpec:
    """Give the settings that students are polished by: the SuperLMs', with a length and a rate of their own."""
    training, polish = request.training, request.polish
    assert polish is not None
    # All of the SuperLM's rate: a quarter of it gained less (benchmarks/results/polish.json).
    rate = polish.learning_rate or training.learning_rate
    return training.model_copy(update={"tokens_per_superlm": polish.tokens, "learning_rate": rate})


def first_batch(training: TrainingSpec) -> int:
    """Give the batch that polishing begins with: the one after the last that any SuperLM was trained on.

    The same for all students of a request, so that they share the teacher's forward.
    """
    tokens = training.tokens_per_superlm
    longest = tokens if isinstance(tokens, int) else max(tokens.values())
    return longest // (training.batch_size * training.sequence_length)
