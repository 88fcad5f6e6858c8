"""The configuration that a teacher is opened with: only the settings that decide what it computes."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from workloads.shapes import teacher_files
from workloads.shapes.teacher_config import SAVE, encoder_settings
from workloads.spec.errors import InputError


def opened_config(
    files: teacher_files.EncoderFiles, config_class: type[PreTrainedConfig], *, head: bool
) -> PreTrainedConfig:
    """Build the configuration that a teacher is opened with.

    Settings of other uses (tuples or attentions as output, caches) are left out: they would change what the teacher
    returns, and would be saved with every student.

    Args:
        files: Files of the teacher.
        config_class: Configuration class of its family.
        head: Keep the settings of a classification head.

    Raises:
        InputError: transformers refuses the settings.
    """
    settings: dict[str, Any] = encoder_settings(files.config, head=head)
    try:
        return config_class(**settings)
    except Exception as error:  # transformers validates with exception classes of its own, which cannot be pickled
        reason = " ".join(str(error).split())
        raise InputError.of(
            teacher_files.FIELD, f"{files.folder}/{teacher_files.CONFIG} cannot be read: {reason}.", SAVE
        ) from error


def without_labels(config: PreTrainedConfig) -> None:
    """Reset the labels of a configuration: a model without a head has none."""
    if config.problem_type is not None:
        config.problem_type = None
    if config.id2label != type(config)().id2label:
        config.num_labels = type(config)().num_labels
