"""The fine-tuned model of an evaluation as a folder that plain ``transformers`` loads with its head."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor
from transformers import PreTrainedConfig

from workloads.craft import stillroom_model
from workloads.craft.card import license_of
from workloads.craft.export import MODEL_FILES, library_versions
from workloads.craft.families import STILLROOM, family_of
from workloads.craft.families.stillroom import AUTO_MAP
from workloads.craft.text.tokenizer import open_tokenizer
from workloads.shapes import teacher_files
from workloads.spec.evaluation import EvaluationRequest, SeedScore
from workloads.spec.request import TeacherSpec


@dataclass(frozen=True)
class ModelKeeper:
    """Writes fine-tuned models, each into a folder of its own.

    Attributes:
        source: Folder of the model that was fine-tuned; its tokenizer's files are copied.
        config: The fine-tuned configuration, with the head's number of outputs.
        classes: The label of each output, as the task's files number it; empty for a regression.
        request: The evaluation.
    """

    source: Path
    config: PreTrainedConfig
    classes: Sequence[int]
    request: EvaluationRequest

    def save(self, folder: Path, weights: dict[str, Tensor], score: SeedScore) -> None:
        """Write a model's folder, and check that it loads.

        Args:
            folder: A local folder, created if need be.
            weights: The state of the fine-tuned model.
            score: Its scores, for the card.

        Raises:
            OSError: The folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config = self._labelled()
        family = family_of(config.model_type)
        if family is STILLROOM:
            config.auto_map = dict(AUTO_MAP)
            for name in MODEL_FILES:
                shutil.copyfile(Path(stillroom_model.__file__).parent / name, folder / name)
        model = family.classifier(config)
        model.load_state_dict(weights, strict=True)
        model.save_pretrained(folder)
        source = Path(teacher_files.locate(TeacherSpec(model=str(self.source.resolve()))))
        for name in teacher_files.TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        _, info = type(model).from_pretrained(folder, local_files_only=True, output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        open_tokenizer(folder)
        (folder / "README.md").write_text(self._card(score, license_of(source)), encoding="utf-8")

    def _labelled(self) -> PreTrainedConfig:
        config = copy.deepcopy(self.config)
        config.architectures = None  # save_pretrained writes its own
        if self.classes:
            config.id2label = {index: str(label) for index, label in enumerate(self.classes)}
            config.label2id = {str(label): index for index, label in enumerate(self.classes)}
        return config

    def _card(self, score: SeedScore, license_name: str | None) -> str:
        task, model = self.request.task, self.request.model
        name = model.student or (model.teacher.model.rstrip("/").rpartition("/")[2] if model.teacher else "")
        header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-classification"}
        if license_name is not None:
            header["license"] = license_name
        facts = {
            "Fine-tuned from": name,
            "Task": f"{task.name}, {task.kind}: {', '.join(task.text_columns)}",
            "Labels": ", ".join(map(str, self.classes)) if self.classes else "a number",
            **{f"Score on the rows of `{task.scored_on}`: {key}": f"{one:.4f}" for key, one in score.scores.items()},
            "Chosen": f"epoch {score.epoch}, learning rate {score.learning_rate:g}",
            "Longest text in training": f"{self.request.sequence_length} tokens",
            "Seed": score.seed,
            "Loaded with": ", ".join(f"{key} {one}" for key, one in library_versions().items()),
        }
        trust = ", trust_remote_code=True" if family_of(self.config.model_type) is STILLROOM else ""
        lines = [
            f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
            f"# {name} on {task.name}",
            "A model fine-tuned by an evaluation of stillroom.",
            "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())]),
            "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
            f'model = AutoModelForSequenceClassification.from_pretrained("FOLDER"{trust})\n'
            f'tokenizer = AutoTokenizer.from_pretrained("FOLDER"{trust})\n```',
        ]
        return "\n\n".join([*lines, ""])
