"""The teacher: brought to a local folder, checked, and opened."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workloads.craft.families import Facts, Family, Head, family_of
from workloads.shapes import teacher_files
from workloads.shapes.architecture import TeacherShape
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec
from workloads.storage.outages import cannot_use, is_outage
from workloads.storage.places import EVERYWHERE, OutsideError, confined
from workloads.storage.storage import Storage

_HUB_FILES = (
    teacher_files.CONFIG,
    teacher_files.WEIGHTS,
    teacher_files.WEIGHTS_INDEX,
    "model-*.safetensors",
    *teacher_files.TOKENIZER_FILES,
    "modules.json",
    "1_Pooling/config.json",
    "README.md",
)


@dataclass(frozen=True)
class Teacher:
    """A teacher that has been opened.

    Attributes:
        folder: Where its files lie.
        model: Frozen, float32, in evaluation mode.
        fingerprint: See :func:`workloads.shapes.teacher_files.fingerprint`.
    """

    folder: Path
    family: Family
    model: PreTrainedModel = field(repr=False)
    shape: TeacherShape
    config: PreTrainedConfig = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    fingerprint: str

    @property
    def facts(self) -> Facts:
        """What a forward needs beside the dimensions."""
        return self.family.facts(self.config)

    @functools.cached_property
    def weights(self) -> dict[str, Tensor]:
        """Its encoder's canonical weights, sharing the model's memory."""
        return self.family.weights(self.model)


def open_teacher(folder: Path, head: Head | None = None) -> Teacher:
    """Load the teacher in a local folder.

    Args:
        folder: Such as :func:`fetch_teacher` gives.
        head: A head to load with it, for its logits.

    Raises:
        InputError: It cannot be used; see :func:`workloads.shapes.teacher_files.check_teacher`.
    """
    teacher_files.check_teacher(TeacherSpec(model=str(folder.resolve())))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        raise InputError.of(
            teacher_files.FIELD, f"{folder}/config.json cannot be read: {error}", "Write it with save_pretrained."
        ) from error
    family = family_of(config.model_type)
    model = family.load(folder, head)
    shape = family.shape(model)
    tokenizer = open_tokenizer(folder)
    if len(tokenizer) > shape.vocab_size:
        raise InputError.of(
            teacher_files.FIELD,
            f"The tokenizer of {folder} has {len(tokenizer)} tokens, the model {shape.vocab_size}.",
            "Use the tokenizer that belongs to the model.",
        )
    return Teacher(folder, family, model, shape, model.config, tokenizer, teacher_files.fingerprint(folder))


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a teacher or student in a local folder.

    Raises:
        InputError: It cannot be read, has no fast form, or has no padding token.
    """
    remedy = "Write it again with AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what a damaged tokenizer raises is anything, a bare Exception included
        raise InputError.of(
            teacher_files.FIELD, f"The tokenizer of {folder} cannot be read: {error}.", remedy
        ) from error
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        lack = "fast form" if not tokenizer.is_fast else "padding token"
        raise InputError.of(teacher_files.FIELD, f"The tokenizer of {folder} has no {lack}.", remedy)
    return tokenizer


def fetch_teacher(spec: TeacherSpec, into: Path) -> Path:
    """Bring a teacher's files to a local folder and check them.

    Only the configuration, safetensors, tokenizer, model card and pooling settings are taken.

    Args:
        spec: A folder (local, ``s3://``, ``gs://``) or a hub id.
        into: The local folder, made if need be.

    Returns:
        ``into``.

    Raises:
        InputError: The teacher cannot be had or used.
    """
    into.mkdir(parents=True, exist_ok=True)
    if teacher_files.is_path(spec.model):
        source, places = spec.model, confined()
    else:
        confined().require_hub(spec.model, teacher_files.FIELD)
        source, places = str(_download(spec)), EVERYWHERE
    teacher_files.check_teacher(TeacherSpec(model=source), places)
    try:
        _copy(Storage.open(source, places), teacher_files.files_to_copy(source, places), into)
    except OutsideError as error:
        raise InputError.of(teacher_files.FIELD, f"{error}.", "Put the file itself there, not a link.") from error
    return into


def _copy(source: Storage, names: list[str], into: Path) -> None:
    for name in names:
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as sink:
            for piece in source.stream(name, 1 << 22):
                sink.write(piece)


def _download(spec: TeacherSpec) -> Path:
    """Give the folder of a hub id in the local hub cache, downloading what is not there yet."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError.of(teacher_files.FIELD, f"{spec.model}: {problem}", remedy)

    def away(error: Exception) -> InputError:
        problem = f"{spec.model}: the hub cannot be reached ({type(error).__name__})."
        return cannot_use(teacher_files.FIELD, problem, "Give a folder with the model, or try again later.", error)

    patterns: Any = list(_HUB_FILES)
    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise refuse(
            "the hub lets only accepted users have it.", "Accept its terms on the hub and set HF_TOKEN on the cluster."
        ) from error
    except RepositoryNotFoundError as error:
        raise refuse(
            "the hub has no such model, or it is private.", "Check the name, set HF_TOKEN, or give a folder."
        ) from error
    except RevisionNotFoundError as error:
        raise refuse(
            f"there is no revision {spec.revision!r}.", "Check 'teacher.revision', or leave it out."
        ) from error
    except HFValidationError as error:
        raise refuse("this is no hub id.", "Write it as 'organisation/name', or give a folder.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        raise away(error) from error
    except Exception as error:  # of the hub's HTTP library, which has changed before
        if is_outage(error):
            raise away(error) from error
        raise
