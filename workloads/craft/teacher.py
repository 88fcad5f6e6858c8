"""The teacher: fetched to a local folder, checked, and opened."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
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
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workloads.craft.families import Facts, Family, Head, family_of
from workloads.craft.heads import run_head
from workloads.craft.signals import Batch, Signals, Wants
from workloads.craft.text.tokenizer import open_tokenizer
from workloads.shapes import teacher_files
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.heads import LogitsHead, VectorHead, dense_name
from workloads.shapes.teacher_folder import TeacherFolder
from workloads.shapes.teacher_modules import MODEL_CONFIG, TRANSFORMER_CONFIGS, dense_tensors
from workloads.spec.errors import InputError
from workloads.spec.request import KindName, TeacherSpec
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
    MODEL_CONFIG,
    *TRANSFORMER_CONFIGS,
    "[0-9]_*/*.json",
    "[0-9]_*/*.safetensors",
    "[0-9]_*/*.txt",
    "[0-9]_*/*.model",
    "README.md",
)
KIND_FILE = "teacher_kind.json"
"""File of a teacher's copy with the kind that it is taken as."""


@dataclass(frozen=True)
class Teacher:
    """A teacher that has been opened.

    Attributes:
        folder: Folder of its files.
        model: The model, frozen, in float32 and evaluation mode.
        fingerprint: Hash of its files; see :meth:`workloads.shapes.teacher_files.TeacherFiles.fingerprint`.
        modules: The part of its head that the model's class does not have; None if there is none.
    """

    folder: Path
    family: Family
    model: PreTrainedModel = field(repr=False)
    shape: TeacherShape
    config: PreTrainedConfig = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    fingerprint: str
    modules: HeadModules | None = field(default=None, repr=False)

    @property
    def facts(self) -> Facts:
        """Settings that a forward pass needs beside the dimensions."""
        return self.family.facts(self.config)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Canonical weights of encoder and head; those of the model share its memory, and so its device."""
        return self.family.weights(self.model) | (self.modules.weights if self.modules is not None else {})

    def read(self, batch: Batch, wants: Wants) -> Signals:
        """Run the teacher as far as needed, and return the wanted signals."""
        if not wants.head or self.modules is None:
            return self.family.read(self.model, batch, wants)
        signals = self.family.read(self.model, batch, replace(wants, head=False, output=True))
        assert signals.output_BLH is not None
        head = self.modules(signals.output_BLH, batch.mask_BL)
        return replace(signals, head=head, output_BLH=signals.output_BLH if wants.output else None)


@dataclass(frozen=True)
class HeadModules:
    """The modules of a sentence-transformers teacher after its encoder.

    Attributes:
        head: The head as the teacher has it.
        weights: Canonical weights of its Dense modules.
    """

    head: VectorHead
    weights: dict[str, Tensor]

    @classmethod
    def load(cls, head: VectorHead, folder: TeacherFolder) -> HeadModules:
        """Read the Dense modules of a local folder."""
        weights = {}
        if not head.projected:
            for index, name in enumerate(dense_tensors(folder)):
                found = load_file(folder.around.storage.path(name))
                weight = found["linear.weight"].float()
                weights[f"{dense_name(index)}.weight"] = weight
                bias = found.get("linear.bias")
                weights[f"{dense_name(index)}.bias"] = torch.zeros(len(weight)) if bias is None else bias.float()
        return cls(head.of_teacher, weights)

    def __call__(self, x_BLH: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Return the vectors ``[B, V]`` of the encoder's output ``[B, L, H]``."""

        def linear(name: str, x: Tensor) -> Tensor:
            weight, bias = (self.weights[f"{name}.{kind}"].to(x) for kind in ("weight", "bias"))
            return F.linear(x, weight, bias)

        return run_head(self.head, x_BLH, mask_BL, linear)


def open_teacher(
    folder: Path, kind: KindName | Literal["masked-lm"] | None = None, embedding_size: int | None = None
) -> Teacher:
    """Load the teacher in a local folder.

    Args:
        folder: The folder, such as the result of :func:`fetch_teacher`.
        kind: The kind that it is taken as; None for the one that its folder was saved as by :func:`mark_kind`, or else
            for an encoder alone. ``masked-lm`` is an encoder with its head over the vocabulary.
        embedding_size: Dimensions of its students' vectors; None for the teacher's, or those of the mark.

    Raises:
        InputError: The teacher cannot be used; see :func:`workloads.shapes.teacher_files.check_teacher`.
    """
    if kind is None:
        kind, embedding_size = _marked_kind(folder)
    spec = TeacherSpec(model=str(folder.resolve()))
    files = teacher_files.open_files(spec, kind="encoder" if kind == "masked-lm" else kind).sized(embedding_size)
    folder = Path(files.folder.url)
    family, head = family_of(str(files.encoder.config["model_type"])), files.head
    of_class: Head | None = "masked-lm" if kind == "masked-lm" else head.kind if isinstance(head, LogitsHead) else None
    model = family.load(folder, of_class)
    shape, config = family.shape(model).with_head(head), model.config
    tokenizer = open_tokenizer(folder)
    _check_ids(folder, tokenizer, family, config)
    modules = HeadModules.load(head, files.folder) if isinstance(head, VectorHead) else None
    return Teacher(folder, family, model, shape, config, tokenizer, files.fingerprint(), modules)


def mark_kind(folder: Path, kind: KindName, embedding_size: int | None = None) -> None:
    """Note in a local copy of a teacher the kind that it is taken as; an encoder needs no note."""
    if kind != "encoder":
        (folder / KIND_FILE).write_text(json.dumps({"kind": kind, "embedding_size": embedding_size}), encoding="utf-8")


def _marked_kind(folder: Path) -> tuple[KindName, int | None]:
    try:
        mark = json.loads((folder / KIND_FILE).read_text(encoding="utf-8"))
        return mark["kind"], mark["embedding_size"]
    except FileNotFoundError:
        return "encoder", None


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


def fetch_teacher(spec: TeacherSpec, into: Path, kind: KindName | None = "encoder") -> Path:
    """Copy a teacher's files to a local folder and check them.

    Only the configuration, safetensors, tokenizer, model card and the files of its head are copied.

    Args:
        spec: A folder (local, ``s3://``, ``gs://``) or a hub id.
        into: The local folder, created if need be.
        kind: The kind that it is taken as; None for the one that its folder says.

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
    files = teacher_files.open_files(spec, places, kind)
    try:
        _copy(files.root.storage, files.to_copy(), into)
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
