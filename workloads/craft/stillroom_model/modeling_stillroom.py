"""An encoder with a free head width, whose layers may differ. Made by stillroom; Apache-2.0.

It computes the same function as BERT, RoBERTa, XLM-R or MPNet, by the configuration's flags. Positions and relative
buckets are computed in the forward pass, since a non-persistent buffer is not restored when a checkpoint is loaded.

Shape letters: B rows, L tokens, H hidden size, A attention width, N heads, D head width.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .configuration_stillroom import StillroomConfig


class StillroomEmbeddings(nn.Module):
    """Sum of word, position and (where there are any) token-type embeddings, normalised."""

    def __init__(self, config: StillroomConfig) -> None:
        super().__init__()
        self.after_padding = config.position_counting == "after-padding"
        self.pad_token_id = config.pad_token_id
        self.word = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(
            config.max_position_embeddings,
            config.hidden_size,
            padding_idx=config.pad_token_id if self.after_padding else None,
        )
        self.token_type = (
            nn.Embedding(config.type_vocab_size, config.hidden_size) if config.type_vocab_size > 0 else None
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Embed `[B, L]` ids as `[B, L, H]`."""
        if position_ids is None:
            position_ids = self.positions(input_ids)
        x_BLH = self.word(input_ids)
        if self.token_type is not None:
            x_BLH = x_BLH + self.token_type(torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        return self.dropout(self.norm(x_BLH + self.position(position_ids)))

    def positions(self, input_ids: Tensor) -> Tensor:
        """Count positions as the teacher's family does."""
        if not self.after_padding:
            return torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        real_BL = input_ids.ne(self.pad_token_id)
        return torch.cumsum(real_BL, dim=1) * real_BL + self.pad_token_id


class StillroomLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a LayerNorm after it.

    A part without heads or neurons is skipped whole, its LayerNorm included.
    """

    def __init__(self, config: StillroomConfig, index: int) -> None:
        super().__init__()
        self.config = config
        self.heads = config.of_layer("num_attention_heads", index)
        self.head_width = config.of_layer("head_width", index)
        width, self.neurons = self.heads * self.head_width, config.of_layer("intermediate_size", index)
        if self.heads > 0:
            self.query = nn.Linear(config.hidden_size, width)
            self.key = nn.Linear(config.hidden_size, width)
            self.value = nn.Linear(config.hidden_size, width)
            self.attention_output = nn.Linear(width, config.hidden_size)
            self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if self.neurons > 0:
            self.intermediate = nn.Linear(config.hidden_size, self.neurons)
            self.output = nn.Linear(self.neurons, config.hidden_size)
            self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_BLH: Tensor, bias: Tensor | None) -> Tensor:
        """Run the layer; `bias` is added to the scores (or masks them), `[B or 1, N or 1, L or 1, L]`."""
        if self.heads > 0:
            shape = (*x_BLH.shape[:2], self.heads, self.head_width)
            q, k, v = (part(x_BLH).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
            if bias is not None and bias.shape[1] > self.heads:
                bias = bias[:, : self.heads]
            context_BLA = self.attend(q, k, v, bias).transpose(1, 2).flatten(2)
            x_BLH = self.attention_norm(self.dropout(self.attention_output(context_BLA)) + x_BLH)
        if self.neurons > 0:
            inner = self.activation(self.intermediate(x_BLH))
            x_BLH = self.output_norm(self.dropout(self.output(inner)) + x_BLH)
        return x_BLH

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Attend over `[B, N, L, D]` projections."""
        drop = self.config.attention_probs_dropout_prob if self.training else 0.0
        if self.config._attn_implementation != "eager":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop)
        scores = q @ k.transpose(-1, -2) * self.head_width**-0.5
        if bias is not None:
            scores = scores + bias
        return F.dropout(scores.softmax(-1), drop) @ v


class StillroomPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading."""

    config_class = StillroomConfig
    base_model_prefix = "stillroom"
    _supports_sdpa = True
    _no_split_modules: ClassVar = ["StillroomEmbeddings", "StillroomLayer"]


class StillroomModel(StillroomPreTrainedModel):
    """The encoder, with a pooler where the checkpoint carries one (or where `add_pooling_layer` says so)."""

    def __init__(self, config: StillroomConfig, add_pooling_layer: bool | None = None) -> None:
        super().__init__(config)
        self.embeddings = StillroomEmbeddings(config)
        self.layers = nn.ModuleList([StillroomLayer(config, index) for index in range(config.num_hidden_layers)])
        buckets = config.relative_attention_num_buckets
        heads = max(config.of_layer("num_attention_heads", index) for index in range(config.num_hidden_layers))
        self.relative_bias = nn.Embedding(buckets, heads) if buckets > 0 and heads > 0 else None
        pools = config.has_pooler if add_pooling_layer is None else add_pooling_layer
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pools else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.embeddings.word

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling | tuple[Tensor, ...]:
        """Encode `[B, L]` ids; `attention_mask` is 1 at real tokens."""
        x_BLH = self.embeddings(input_ids, token_type_ids, position_ids)
        bias = self.attention_bias(attention_mask, x_BLH)
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states = [x_BLH] if keep else []
        for layer in self.layers:
            x_BLH = layer(x_BLH, bias)
            if keep:
                states.append(x_BLH)
        output = BaseModelOutputWithPooling(
            last_hidden_state=x_BLH,
            pooler_output=None if self.pooler is None else torch.tanh(self.pooler(x_BLH[:, 0])),
            hidden_states=tuple(states) if keep else None,
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def attention_bias(self, attention_mask: Tensor | None, x_BLH: Tensor) -> Tensor | None:
        """Return the mask and the relative bias as one term of the scores, or None without both."""
        bias = None
        if self.relative_bias is not None:
            bias = self.relative_bias(self.buckets(x_BLH.shape[1], x_BLH.device)).permute(2, 0, 1)[None]
        if attention_mask is None:
            return bias
        masked = attention_mask[:, None, None, :] == 0
        if bias is None:
            bias = x_BLH.new_zeros(1)
        return bias.masked_fill(masked, torch.finfo(x_BLH.dtype).min)

    def buckets(self, length: int, device: torch.device) -> Tensor:
        """Return the bucket of each distance: half of them for later keys; exact for near, logarithmic for far keys."""
        at = torch.arange(length, device=device)
        distance = at[None, :] - at[:, None]
        half = self.config.relative_attention_num_buckets // 2
        exact, most = half // 2, self.config.relative_attention_max_distance
        far = torch.log(distance.abs().clamp(min=1).float() / exact) / math.log(most / exact) * (half - exact)
        bucket = torch.where(distance.abs() < exact, distance.abs(), (exact + far.long()).clamp(max=half - 1))
        return bucket + half * (distance > 0)


class _StillroomClassifier(StillroomPreTrainedModel):
    """The encoder with a classifier, over its pooled first token or over every token."""

    pools = True

    def __init__(self, config: StillroomConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.stillroom = StillroomModel(config, add_pooling_layer=self.pools)
        drop = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(drop)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class StillroomForSequenceClassification(_StillroomClassifier):
    """The encoder with a classifier over the pooled first token."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: object,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Classify `[B, L]` ids; `labels` are classes, or floats for one label (regression)."""
        encoded = self.stillroom(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states, return_dict=True
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()


class StillroomForTokenClassification(_StillroomClassifier):
    """The encoder with a classifier over every token."""

    pools = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: object,
    ) -> TokenClassifierOutput | tuple[Tensor, ...]:
        """Classify the tokens of `[B, L]` ids; `labels` are classes, -100 where there is nothing to predict."""
        encoded = self.stillroom(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states, return_dict=True
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        output = TokenClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()


class StillroomMaskedLMHead(nn.Module):
    """A dense layer, an activation, a LayerNorm, and the word embeddings as the map to the vocabulary."""

    def __init__(self, config: StillroomConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, x_BLH: Tensor) -> Tensor:
        """Return the logits of each token, `[B, L, vocabulary]`."""
        return self.decoder(self.norm(self.activation(self.dense(x_BLH))))


class StillroomForMaskedLM(StillroomPreTrainedModel):
    """The encoder with a head over the vocabulary."""

    _tied_weights_keys: ClassVar = {"head.decoder.weight": "stillroom.embeddings.word.weight"}

    def __init__(self, config: StillroomConfig) -> None:
        super().__init__(config)
        self.stillroom = StillroomModel(config, add_pooling_layer=False)
        self.head = StillroomMaskedLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the map to the vocabulary."""
        return self.head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the map to the vocabulary."""
        self.head.decoder = new_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: object,
    ) -> MaskedLMOutput | tuple[Tensor, ...]:
        """Return the logits of `[B, L]` ids; `labels` are ids, -100 where there is nothing to predict."""
        encoded = self.stillroom(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states, return_dict=True
        )
        logits = self.head(encoded.last_hidden_state)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        output = MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()


__all__ = [
    "StillroomForMaskedLM",
    "StillroomForSequenceClassification",
    "StillroomForTokenClassification",
    "StillroomModel",
    "StillroomPreTrainedModel",
]
