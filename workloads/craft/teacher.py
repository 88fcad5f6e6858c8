"""The teacher: fetched to a local folder, checked, and opened."""

from __future__ import annotations

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
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workloads.craft.families import Facts, Family, Head, family_of
from workloads.craft.text.tokenizer import open_tokenizer
from workloads.shapes import teacher_files
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.teacher_folder import TeacherFolder
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
        folder: Folder of its files.
        model: The model, frozen, in float32 and evaluation mode.
        fingerprint: Hash of its files; see :func:`workloads.shapes.teacher_files.fingerprint`.
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
        """Settings that a forward pass needs beside the dimensions."""
        return self.family.facts(self.config)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Canonical weights of the encoder; they share the model's memory, and so its device."""
        return self.family.weights(self.model)


def open_teacher(folder: Path, head: Head | None = None) -> Teacher:
    """Load the teacher in a local folder.

    Args:
        folder: The folder, such as the result of :func:`fetch_teacher`.
        head: A head to load with it, for its logits.

    Raises:
        InputError: The teacher cannot be used; see :func:`workloads.shapes.teacher_files.check_teacher`.
    """
    spec = TeacherSpec(model=str(folder.resolve()))
    teacher_files.check_teacher(spec)
    folder = Path(teacher_files.locate(spec))
    family = family_of(str(teacher_files.encoder_of(folder).config["model_type"]))
    model = family.load(folder, head)
    shape, config = family.shape(model), model.config
    tokenizer = open_tokenizer(folder)
    _check_ids(folder, tokenizer, family, config)
    return Teacher(folder, family, model, shape, config, tokenizer, teacher_files.fingerprint(folder))


def _check_ids(folder: Path, tokenizer: PreTrainedTokenizerBase, family: Family, config: PreTrainedConfig) -> None:
    token, number = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if number >= config.vocab_size:
        raise InputError.of(
            teacher_files.FIELD,
            f"The tokenizer of {folder} has {number + 1} tokens, the model {config.vocab_size}: {token!r} has the id "
            f"{number}.",
            "Use the tokenizer that belongs to the model, or resize the model's table and save it.",
        )
    facts = family.facts(config)
    if facts.position_counting == "after-padding" and tokenizer.pad_token_id != facts.pad_token_id:
        raise InputError.of(
            teacher_files.FIELD,
            f"The tokenizer of {folder} pads with the id {tokenizer.pad_token_id}, and the model counts positions from "
            f"pad_token_id + 1, with pad_token_id: {facts.pad_token_id}.",
            "Use the tokenizer that belongs to the model, or correct pad_token_id in config.json.",
        )


def fetch_teacher(spec: TeacherSpec, into: Path) -> Path:
    """Copy a teacher's files to a local folder and check them.

    Only the configuration, safetensors, tokenizer, model card and pooling settings are copied.

    Args:
        spec: A folder (local, ``s3://``, ``gs://``) or a hub id.
        into: The local folder, created if need be.

    Returns:
        ``into``.

    Raises:
        InputError: The teacher cannot be fetched or used.
    """
    into.mkdir(parents=True, exist_ok=True)
    places = confined()
    if not teacher_files.is_path(spec.model):
        places.require_hub(spec.model, teacher_files.FIELD)
        spec, places = TeacherSpec(model=str(_download(spec))), EVERYWHERE
    teacher_files.check_teacher(spec, places)
    folder = TeacherFolder.open(spec.model, places, spec.revision)
    try:
        _copy(folder.storage, teacher_files.files_to_copy(folder), into)
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
    """Download the files of a hub id that the local hub cache lacks, and return its folder there."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError.of(teacher_files.FIELD, f"{spec.model}: {problem}", remedy)

    def unreachable(error: Exception) -> InputError:
        problem = f"{spec.model}: the hub cannot be reached ({type(error).__name__})."
        return cannot_use(teacher_files.FIELD, problem, "Give a folder with the model, or try again later.", error)

    patterns: Any = list(_HUB_FILES)
    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise refuse(
            "the hub gives it to accepted users only.", "Accept its terms on the hub and set HF_TOKEN on the cluster."
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
        raise refuse("this is not a hub id.", "Write it as 'organisation/name', or give a folder.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        raise unreachable(error) from error
    except Exception as error:  # the class is that of the hub's HTTP library, which changes between versions
        if is_outage(error):
            raise unreachable(error) from error
        raise
