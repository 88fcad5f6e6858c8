"""What of a request can be judged only once the teacher is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workloads.architecture import TeacherShape
from workloads.craft.families import family_of
from workloads.errors import InputError
from workloads.request import CompressionRequest, TrainingSpec
from workloads.spaces import SubSpace


def check_fits(request: CompressionRequest, shape: TeacherShape, pad_id: int, spaces: Sequence[SubSpace]) -> None:
    """Refuse training settings that do not fit the teacher or the sub-spaces.

    Args:
        request: The settings.
        shape: The teacher's.
        pad_id: Its padding id, behind which some families start counting positions.
        spaces: The sub-spaces.

    Raises:
        InputError: Rows longer than the teacher can read, or settings for other sub-spaces than there are.
    """
    training, names = request.training, [space.name for space in spaces]
    before = 0 if family_of(shape.family).position_counting == "from-zero" else pad_id + 1
    longest = shape.positions - before
    if training.sequence_length > longest:
        raise InputError.of(
            "training.sequence_length",
            f"The teacher reads at most {longest} tokens, not {training.sequence_length}.",
            f"Use at most {longest}.",
        )
    for name, length in _other_lengths(request):
        if length > longest:
            raise InputError.of(
                name, f"The teacher reads at most {longest} tokens, not {length}.", f"Use at most {longest}."
            )
    tokens = training.tokens_per_superlm
    if isinstance(tokens, dict) and set(tokens) != set(names):
        raise InputError.of(
            "training.tokens_per_superlm",
            f"It names {', '.join(sorted(tokens))}; the sub-spaces are {', '.join(names)}.",
            "Give one number for all, or one for each of the sub-spaces.",
        )
    _check_placement(training, names)
    _check_relation_heads(request, shape, spaces)


def _other_lengths(request: CompressionRequest) -> Iterator[tuple[str, int]]:
    """The lengths in tokens that a student must read after its training, by field."""
    for target in request.latency_targets:
        yield f"latency_targets.{target.name}.sequence_length", target.sequence_length
    if request.proxy_task is not None:
        yield "proxy_task.sequence_length", request.proxy_task.sequence_length


def _check_placement(training: TrainingSpec, names: Sequence[str]) -> None:
    if isinstance(training.placement, str):
        return
    placed = [name for group in training.placement for name in group]
    if sorted(placed) != sorted(names) or not all(training.placement):
        raise InputError.of(
            "training.placement",
            f"Its groups hold {', '.join(sorted(placed)) or 'nothing'}; the sub-spaces are {', '.join(names)}.",
            "Put every sub-space into exactly one group, or use 'auto'.",
        )


def _check_relation_heads(request: CompressionRequest, shape: TeacherShape, spaces: Sequence[SubSpace]) -> None:
    heads = request.objective.relation_heads or shape.heads
    for space in spaces:
        layer = space.smallest.layers[0]
        width = layer.heads * layer.head_width
        if request.objective.relation is not None and heads > width:
            raise InputError.of(
                "objective.relation_heads",
                f"{heads} relation heads cannot split the narrowest student of {space.name!r}, {width} wide.",
                f"Use at most {width}.",
            )
