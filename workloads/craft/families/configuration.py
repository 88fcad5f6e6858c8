"""A teacher's configuration as it is opened: the settings that decide what it computes, and no other."""

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

    Settings that matter to other uses alone (tuples or attentions as output, caches) are left out: they would change
    how the teacher answers, and would be saved with every student.

    Args:
        files: Of the teacher.
        config_class: The family's.
        head: Keep the settings of a classification head.

    Raises:
        InputError: transformers does not take the settings.
    """
    settings: dict[str, Any] = encoder_settings(files.config, head=head)
    try:
        return config_class(**settings)
    except Exception as error:  # validation in transformers has exceptions of its own, which cannot be pickled
        reason = " ".join(str(error).split())
        raise InputError.of(
            teacher_files.FIELD, f"{files.folder}/{teacher_files.CONFIG} cannot be read: {reason}.", SAVE
        ) from error
