"""Tasks: models are fine-tuned and scored by the product's own evaluation.

Shape letters: B rows of a batch, H hidden size, M validation rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.distil import Report
from benchmarks.quality.rows import Values
from workloads.craft.objectives.output import pool
from workloads.craft.tasks.data import read_task
from workloads.craft.tasks.encoding import EncodedRows, encode_rows
from workloads.craft.tasks.evaluating import Reports, TaskModel, fine_tune, prepare
from workloads.spec.evaluation import EvaluationRequest

COLUMNS: dict[str, tuple[str, ...]] = {
    "sst2": ("sentence",),
    "cola": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
}
_METRICS = {"cola": "matthews", "stsb": "spearman"}
"""What the epoch is chosen by, where it is not accuracy."""
_ROWS_AT_ONCE = 64


def request_of(task: str, data: Path, tuning: dict[str, Any]) -> EvaluationRequest:
    """Write the request of a task; ``tuning`` has the fields of :class:`EvaluationRequest` and ``train_rows``."""
    settings, columns = dict(tuning), COLUMNS[task]
    kind = "similarity" if task == "stsb" else "single" if len(columns) == 1 else "pair"
    return EvaluationRequest.model_validate(
        {
            "model": {"teacher": {"model": "benchmark"}},
            "task": {
                "name": task,
                "kind": kind,
                "train": [str(data / "tasks" / task / "train.parquet")],
                "validation": [str(data / "tasks" / task / "validation.parquet")],
                "text_columns": list(columns),
                "metric": _METRICS.get(task, "accuracy"),
                "max_train_rows": settings.pop("train_rows"),
            },
            **settings,
        }
    )


def labels_of(task: str, data: Path) -> Values:
    """Labels of the validation rows: classes from 0, or values."""
    return read_task(request_of(task, data, {"train_rows": None}).task_spec()).validation.labels.astype(np.float32)


def tune(
    model: TaskModel, request: EvaluationRequest, seed: int, device: torch.device, report: Report
) -> tuple[dict[str, Any], Values]:
    """Fine-tune and score with one seed, and return the scores and the answers to the validation rows ``[M]``."""
    data = prepare(request, model)
    found = fine_tune(
        model.model, data, request, seed, device, Reports(lambda done, total: report(done, total, "steps"))
    )
    return found.score.model_dump(), found.answers_M.astype(np.float32)


@torch.no_grad()
def similarities(model: TaskModel, request: EvaluationRequest, device: torch.device) -> Values:
    """Cosines of mean-pooled outputs of the validation pairs, without any fine-tuning: ``[M]``."""
    sides = read_task(request.task_spec()).validation
    types = getattr(model.model.config, "type_vocab_size", 0) > 1
    pooled = []
    for texts in sides.texts:
        one = replace(sides, texts=(texts,))
        pooled.append(_pooled(model, encode_rows(one, request.sequence_length, model.tokenizer, types), device))
    first_MH, second_MH = pooled
    return torch.nn.functional.cosine_similarity(first_MH, second_MH).cpu().numpy().astype(np.float32)


def _pooled(model: TaskModel, rows: EncodedRows, device: torch.device) -> Tensor:
    module = model.model.to(device).eval()
    pooled_MH = torch.empty(len(rows), module.config.hidden_size)
    for part in rows.by_length(_ROWS_AT_ONCE):
        batch = rows.batch(part, model.tokenizer.pad_token_id)[0].to(device)
        output_BLH = module(input_ids=batch.input_ids_BL, attention_mask=batch.mask_BL).last_hidden_state
        pooled_MH[torch.from_numpy(part)] = pool(output_BLH.float(), batch.mask_BL).cpu()
    return pooled_MH
