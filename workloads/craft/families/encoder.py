"""The common part of the encoder families: one encoder behind stock ``transformers`` classes.

Families differ in their classes, in the names of their modules, in how they count positions and in a relative bias.

Shape letters: B rows, L tokens, A attention width, H hidden size.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from workloads.craft.facts import Facts, PositionCounting
from workloads.craft.families.configuration import opened_config, without_labels
from workloads.craft.families.family import Head
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes import teacher_files
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.heads import LogitsHead
from workloads.shapes.layouts import Layout
from workloads.shapes.parameters import parameter_names
from workloads.shapes.teacher_config import ENCODER, HEAD
from workloads.spec.errors import InputError

_RELATIONS = ("query", "key", "value")
_INSIDES = ("attention_output", "intermediate")
CLASSIFIERS: tuple[Literal["classification", "token-classification"], ...] = ("classification", "token-classification")
"""Heads that give labels or numbers."""


@dataclass(frozen=True)
class Encoder:
    """A family of encoders; it implements :class:`~workloads.craft.families.family.Family`.

    Attributes:
        name: The ``model_type``.
        classes: The stock class for each head; that without a head by None.
        layout: Names of the modules.
        position_counting: How positions are counted.
        attention: The attention implementation to load with.
        pad_token_id: The padding id where the family's code fixes it, whatever the configuration says.
        buckets: Relative-bias buckets for a length in tokens.
    """

    name: str
    classes: dict[Head | None, Any]
    layout: Layout
    position_counting: PositionCounting = "from-zero"
    attention: str = "sdpa"
    pad_token_id: int | None = None
    buckets: Callable[[int], Tensor] | None = None

    def load(self, folder: Path, head: Head | None = None) -> PreTrainedModel:
        """Load a frozen teacher: the stock class, float32, evaluation mode, no gradients.

        Raises:
            InputError: The weights do not fit the configuration, or lack the head.
        """
        files = teacher_files.encoder_of(folder)
        # The stock class would initialise a pooler at random if the checkpoint lacks one.
        extra: dict[str, Any] = {"add_pooling_layer": files.tensors.pooler} if head is None else {}
        if files.tensors.wrapper:
            extra["key_mapping"] = {f"^{re.escape(files.tensors.wrapper)}": ""}
        config = opened_config(files, self.classes[None].config_class, head=head in self.layout.heads)
        try:
            model, info = self.classes[head].from_pretrained(
                files.folder,
                config=config,
                dtype=torch.float32,
                attn_implementation=self.attention,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **extra,
            )
        except MemoryError:
            raise
        except Exception as error:  # transformers and safetensors have exceptions of their own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError.of(
                teacher_files.FIELD, f"{folder} cannot be loaded: {reason}", "Write it again with save_pretrained."
            ) from error
        missing = sorted(info["missing_keys"])
        if missing:
            what = f"a {head} head" if head is not None else "some weights"
            raise InputError.of(
                teacher_files.FIELD,
                f"{folder} lacks {what}: {', '.join(missing[:3])}.",
                "Use a checkpoint that has them all.",
            )
        return model.eval().requires_grad_(False)

    def read(self, model: PreTrainedModel, batch: Batch, wants: Wants) -> Signals:
        """Run the model as far as needed, and return the wanted signals."""
        layers = list(_base(model).get_submodule(self.layout.layers))
        hooked = _SignalHooks(wants, len(layers))
        # A layer without heads or without neurons lacks the module.
        hooked.waiting -= {
            (kind, index)
            for kind, index in hooked.waiting
            if kind in _INSIDES and _part(layers[index - 1], self.layout.layer[kind]) is None
        }
        with ExitStack() as hooks:
            for kind, index in hooked.waiting - {("head", 0)}:
                at = self.layout.layer.get(kind)
                whole = layers[index - 1] if index else _base(model).get_submodule("embeddings")
                module = whole if at is None else whole.get_submodule(at)
                hooks.callback(module.register_forward_hook(hooked.hook(kind, index)).remove)
            try:
                output = model(**self._inputs(batch))
            except _StopForward:
                return hooked.signals(wants)
        if wants.head:
            hooked.found["head"][0] = output.logits
        return hooked.signals(wants)

    def weights(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights of encoder and classifier by canonical name; they share the model's memory."""
        canonical, kind = parameter_names(self.shape(model)), self._kind(model)
        if kind is None:
            state, names = dict(_base(model).named_parameters()), self.layout.parameters(canonical)
        else:
            state = dict(model.named_parameters())
            names = self.layout.parameters_with_head(canonical, kind, model.base_model_prefix)
        assert set(names.values()) == set(state), set(names.values()) ^ set(state)
        return {name: state[stock].detach() for name, stock in names.items()}

    def shape(self, model: PreTrainedModel) -> TeacherShape:
        """Return the dimensions of a loaded model."""
        kind = self._kind(model)
        pooler = getattr(_base(model), "pooler", None) is not None
        if kind is not None:
            pooler = "pooler" in self.layout.heads[kind]
        shape = TeacherShape(self.architecture(model.config), self.vocabulary(model.config, pooler=pooler))
        return shape if kind is None else shape.with_head(LogitsHead(kind, model.config.num_labels))

    def _kind(self, model: PreTrainedModel) -> Literal["classification", "token-classification"] | None:
        """Return the kind of classifier that a model is; None for an encoder, or one with another head."""
        return next((kind for kind in CLASSIFIERS if type(model) is self.classes[kind]), None)

    def architecture(self, config: PreTrainedConfig) -> Architecture:
        """Return the architecture that a configuration describes."""
        return Architecture.of_teacher(
            config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size
        )

    def vocabulary(self, config: PreTrainedConfig, *, pooler: bool) -> Vocabulary:
        """Return the inputs that a configuration describes, and the parts beside the layers."""
        shared = self.layout.shared
        return Vocabulary(
            family=self.name,
            vocab_size=config.vocab_size,
            positions=config.max_position_embeddings,
            token_types=config.type_vocab_size if "embeddings.token_type" in shared else 0,
            relative_buckets=config.relative_attention_num_buckets if "relative_bias" in shared else 0,
            pooler=pooler,
            reserved_positions=self.facts(config).reserved_positions,
        )

    def facts(self, config: PreTrainedConfig) -> Facts:
        """Return the settings of a configuration that a forward pass needs."""
        padding = config.pad_token_id if self.pad_token_id is None else self.pad_token_id
        return Facts(config.layer_norm_eps, config.hidden_act, padding, self.position_counting, self.buckets)

    def classifier(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build a model of the family with a classification head; its weights are random."""
        model: PreTrainedModel = self.classes["classification"]._from_config(config)
        return model

    def student(
        self,
        teacher_config: PreTrainedConfig,
        architecture: Architecture,
        weights: dict[str, Tensor],
        head: Head | None = None,
    ) -> PreTrainedModel:
        """Build a model of the stock class with a student's shape and weights, in evaluation mode."""
        assert architecture.stock, architecture
        config = self._own_config(teacher_config)
        if head is None:
            without_labels(config)
        config.hidden_size = architecture.hidden_size
        config.num_hidden_layers = len(architecture.layers)
        config.num_attention_heads = architecture.layers[0].heads
        config.intermediate_size = architecture.layers[0].intermediate_size
        config.hidden_act = architecture.activation or config.hidden_act
        config.architectures = None  # save_pretrained writes the student's own
        pooler = "pooler.weight" in weights
        with torch.random.fork_rng(devices=[]):  # the initial values are random, and replaced below
            model = self.classes[head](config, **({"add_pooling_layer": pooler} if head is None else {}))
        return self._filled(model, weights, head)

    def _filled(self, model: PreTrainedModel, weights: dict[str, Tensor], head: Head | None) -> PreTrainedModel:
        """Load all canonical weights into a model, and return it in evaluation mode."""
        if head is None:
            names = self.layout.parameters(weights)
        else:
            names = self.layout.parameters_with_head(weights, head, model.base_model_prefix)
        model.load_state_dict({names[name]: tensor for name, tensor in weights.items()}, strict=True)
        return model.eval()

    def _own_config(self, teacher_config: PreTrainedConfig) -> PreTrainedConfig:
        """Copy the teacher's configuration; one of our own class is converted to this family's."""
        own = self.classes[None].config_class
        if isinstance(teacher_config, own):
            return copy.deepcopy(teacher_config)
        known = own().to_dict().keys() | {"tokenizer_class"}
        theirs = teacher_config.to_dict()
        config: PreTrainedConfig = own(
            **{name: theirs[name] for name in (*ENCODER, *HEAD) if name in known & theirs.keys()}
        )
        return config

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        inputs = {"input_ids": batch.input_ids_BL}
        if batch.mask_BL is not None:
            inputs["attention_mask"] = batch.mask_BL
        if batch.token_types_BL is not None and "embeddings.token_type" in self.layout.shared:
            inputs["token_type_ids"] = batch.token_types_BL
        return inputs


class _StopForward(Exception):
    """All wanted signals have been taken: the rest of the forward pass is not needed."""


class _SignalHooks:
    """The hooks of one forward pass, and the signals that they have taken so far."""

    def __init__(self, wants: Wants, layers: int) -> None:
        self.layers = layers
        self.found: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self.waiting = {(kind, index) for kind in _RELATIONS for index in wants.relations}
        self.waiting |= {("layer", index) for index in wants.hidden}
        self.waiting |= {(kind, index) for kind in _INSIDES for index in wants.insides}
        if wants.output:
            self.waiting.add(("layer", layers))
        if wants.head:
            self.waiting.add(("head", 0))

    def hook(self, kind: str, index: int) -> Callable[[nn.Module, Any, Any], None]:
        def take(module: nn.Module, arguments: Any, output: Any) -> None:
            given = arguments[0] if kind == "attention_output" else output
            self.found[kind][index] = given[0] if isinstance(given, tuple) else given
            self.waiting.discard((kind, index))
            if not self.waiting:
                raise _StopForward

        return take

    def signals(self, wants: Wants) -> Signals:
        layers = self.found["layer"]
        return Signals(
            queries=self.found["query"],
            keys=self.found["key"],
            values=self.found["value"],
            hidden={index: layers[index] for index in wants.hidden},
            contexts=self.found["attention_output"],
            inner=self.found["intermediate"],
            output_BLH=layers[self.layers] if wants.output else None,
            head=self.found["head"].get(0),
            layers=self.layers,
        )


def _base(model: PreTrainedModel) -> PreTrainedModel:
    return getattr(model, model.base_model_prefix, model)


def _part(layer: nn.Module, at: str) -> nn.Module | None:
    return dict(layer.named_modules()).get(at)
