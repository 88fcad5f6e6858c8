"""Polishing: distilling a chosen student alone, with the training loop of its SuperLM.

The loop gets a space with a single member, so that its sandwich is that one subnet.
"""

from __future__ import annotations

from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace, Space
from workloads.spec.request import CompressionRequest, TrainingSpec


def single_student_space(space: Space, architecture: Architecture) -> ListedSpace:
    """Make a space whose only member is ``architecture``, named after it and ``space``."""
    return ListedSpace(f"{space.name} {architecture.describe()}", (architecture,))


def polish_training(request: CompressionRequest) -> TrainingSpec:
    """Return the training settings of polishing: those of the SuperLMs, but for length and learning rate."""
    training, polish = request.training, request.polish
    assert polish is not None
    # By default the SuperLM's learning rate; a quarter of it gained less (benchmarks/results/polish.json).
    rate = polish.learning_rate or training.learning_rate
    return training.model_copy(update={"tokens_per_superlm": polish.tokens, "learning_rate": rate})


def first_batch(training: TrainingSpec) -> int:
    """Return the number of polishing's first batch: the one after the last batch of any SuperLM's training.

    It is the same for all students of a request, so that they can share the teacher's forward.
    """
    tokens = training.tokens_per_superlm
    longest = tokens if isinstance(tokens, int) else max(tokens.values())
    return longest // (training.batch_size * training.sequence_length)
