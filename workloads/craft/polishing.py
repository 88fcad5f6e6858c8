"""What polishing is: a chosen student is distilled on alone, by the loop that trained its SuperLM.

A sub-space with one architecture is the whole of it: its sandwich is that one subnet.
"""

from __future__ import annotations

from workloads.shapes.architecture import Architecture
from workloads.shapes.spaces import SubSpace
from workloads.spec.request import CompressionRequest, TrainingSpec


def alone(space: SubSpace, architecture: Architecture) -> SubSpace:
    """Give the sub-space that holds nothing but one architecture of ``space``, named after both."""
    first, hidden = architecture.layers[0], architecture.hidden_size
    # An architecture knows its feed-forward width, a sub-space the ratio that it came from.
    ratios = [ratio for ratio in space.mlp_ratios if int(hidden * ratio) == first.intermediate_size]
    assert ratios, (space, architecture)
    only = SubSpace(
        name=f"{space.name} {architecture.describe()}",
        layers=(len(architecture.layers),),
        hidden_sizes=(hidden,),
        mlp_ratios=(ratios[0],),
        heads=None if space.heads is None else (first.heads,),
        head_width=space.head_width,
        teacher_layers=space.teacher_layers,
    )
    assert only.largest == architecture, (only, architecture)
    return only


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
