"""Fine-tuning on a task, epoch by epoch: AdamW, warm-up, then a linear decay to zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from workloads.craft.families import family_of
from workloads.craft.precision import autocast, has_bfloat16
from workloads.craft.products import fast_models
from workloads.craft.signals import Batch
from workloads.craft.tasks.encoding import EncodedRows, EncodedTask
from workloads.craft.tasks.metrics import METRICS, Values
from workloads.spec.search import TaskSpec

WARMUP, WEIGHT_DECAY, CLIP_NORM = 0.1, 0.01, 1.0
"""Warm-up as a share of the steps, AdamW's weight decay (none on vectors), and the largest gradient norm."""


@dataclass(frozen=True)
class EpochScore:
    """Score and loss of a model after an epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        score: The task's metric on its validation rows; higher is better.
        train_loss: Mean training loss over the epoch.
    """

    epoch: int
    score: float
    train_loss: float


def classifier(base: PreTrainedModel, task: EncodedTask, seed: int) -> PreTrainedModel:
    """Copy a model into the classifier of its family.

    Args:
        base: A teacher or a student without a head; its weights are copied.
        task: The task, for the number of outputs of the head.
        seed: Seed of the head's initial values (and of the pooler's, if the head needs one and ``base`` has none).
    """
    config = head_config(base.config, task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family_of(config.model_type).classifier(config)
    own = getattr(model, model.base_model_prefix)
    lacking, left = own.load_state_dict(base.state_dict(), strict=False)
    # Some heads read the pooler, others have a layer of their own; all other weights must match.
    odd = [name for name in (*lacking, *left) if not name.startswith("pooler.")]
    assert not odd, odd
    if task.regression:
        _start_at_the_labels(model, task.train.labels_N.astype(np.float64))
    return model


@torch.no_grad()
def _start_at_the_labels(model: PreTrainedModel, labels_N: Values) -> None:
    """Give the answers of a new regression head the mean and the spread of the labels ``[N]``.

    Else the first steps move the whole model towards the mean of the labels, which a bias alone reaches by
    mean / learning rate steps: on 1,000 rows of STS-B that is more than all steps there are.
    """
    last = [one for one in model.modules() if isinstance(one, nn.Linear)][-1]
    assert last.out_features == 1, last
    last.weight *= _spread(labels_N)
    last.bias.fill_(float(labels_N.mean()))


def _spread(labels_N: Values) -> float:
    """Return the standard deviation of labels ``[N]``; 1 if they are all alike."""
    return float(labels_N.std()) or 1.0


def head_config(base: PreTrainedConfig, task: EncodedTask) -> PreTrainedConfig:
    """Copy a model's configuration and add the head of a task."""
    config = copy.deepcopy(base)
    config.num_labels = task.outputs
    config.problem_type = "regression" if task.regression else "single_label_classification"
    return config


class FineTuning:
    """Fine-tuning of one model on a task; scores depend on the seed alone, not on what ran before.

    Args:
        model: A model with a head, as :func:`classifier` makes it; trained in place.
        task: Tokens and labels.
        spec: Epochs, batch size, learning rate, metric.
        seed: Seed of dropout and of the order of rows.
        device: The device to train on.
        stepped: Called after each step.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        task: EncodedTask,
        spec: TaskSpec,
        *,
        seed: int,
        device: torch.device,
        stepped: Callable[[], None] | None = None,
    ) -> None:
        self.model = model.to(device).requires_grad_(True)
        self.task, self.spec, self.seed, self.device = task, spec, seed, device
        self.epoch = 0
        self._stepped = stepped
        self._spread = _spread(task.train.labels_N.astype(np.float64)) if task.regression else 1.0
        decays = [one for one in model.parameters() if one.ndim > 1]
        plain = [one for one in model.parameters() if one.ndim <= 1]
        groups = [{"params": decays, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)
        steps = spec.epochs * -(-len(task.train) // spec.batch_size)
        warmup = max(1, int(steps * WARMUP))

        def factor(step: int) -> float:
            return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup + 1))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def run_epoch(self) -> EpochScore:
        """Train for one epoch and score the model."""
        assert self.epoch < self.spec.epochs
        self.model.train()
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0]))
            draw = np.random.default_rng([self.seed, self.epoch])
            for rows in self.task.train.shuffled(self.spec.batch_size, draw):
                losses.append(self._step(*self.task.train.batch(rows, self.task.pad_id)))
                if self._stepped is not None:
                    self._stepped()
        self.epoch += 1
        return EpochScore(self.epoch, self.score(), float(torch.stack(losses).mean()))

    def score(self) -> float:
        """Score the model on the validation rows."""
        rows = self.task.validation
        return METRICS[self.spec.metric](self.predict(rows), rows.labels_N.astype(np.float64))

    @torch.no_grad()
    def predict(self, rows: EncodedRows) -> Values:
        """Return the model's prediction for each row, ``[N]``: a class, or the value of a regression."""
        self.model.eval()
        predicted = np.empty(len(rows))
        for part in rows.by_length(2 * self.spec.batch_size):
            logits = self._logits(rows.batch(part, self.task.pad_id)[0])
            predicted[part] = (logits[:, 0] if self.task.regression else logits.argmax(-1)).float().cpu().numpy()
        return predicted

    def _step(self, batch: Batch, labels: Tensor) -> Tensor:
        logits = self._logits(batch).float()
        labels = labels.to(self.device)
        loss: Tensor = (
            nn.functional.mse_loss(logits[:, 0] / self._spread, labels / self._spread)
            if self.task.regression
            else nn.functional.cross_entropy(logits, labels)
        )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._schedule.step()
        return loss.detach()

    def _logits(self, batch: Batch) -> Tensor:
        batch = batch.to(self.device)
        inputs = {"input_ids": batch.input_ids_BL, "attention_mask": batch.mask_BL}
        if batch.token_types_BL is not None:
            inputs["token_type_ids"] = batch.token_types_BL
        with fast_models(), autocast(self.device, has_bfloat16(self.device)):
            logits: Tensor = self.model(**inputs).logits
        return logits
