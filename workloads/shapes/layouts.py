"""Layouts: module names in the families' stock models, by the part names of :mod:`workloads.shapes.parameters`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from workloads.shapes.parameters import LAYER, LAYERS, SHARED, Place, place_of


@dataclass(frozen=True)
class Layout:
    """Module names of one kind of model, by the part names of :mod:`workloads.shapes.parameters`.

    Attributes:
        shared: Module of each part that layers share, as a path from the encoder model; a family that never has a
            part leaves it out.
        layer: Module of each part of a layer, as a path from the layer.
        heads: Module of each part of a head by kind of teacher, as a path from the model with the head. The pooler is
            among them if the head uses it; some families have it within the head.
        layers: Path from the encoder model to its list of layers.
    """

    shared: dict[str, str]
    layer: dict[str, str]
    heads: dict[str, dict[str, str]]
    layers: str = "encoder.layer"

    def parameters(self, names: Iterable[str]) -> dict[str, str]:
        """Map canonical parameter names to the model's names."""
        return {name: self._parameter(place_of(name)) for name in names}

    def parameters_with_head(self, names: Iterable[str], kind: str, base: str) -> dict[str, str]:
        """Map canonical parameter names to those of a model with a head.

        Args:
            names: Canonical names.
            kind: Kind of the teacher, a key of :attr:`heads`.
            base: Path from that model to its encoder.
        """
        head = self.heads[kind]
        mapped = {}
        for name in names:
            place = place_of(name)
            module = head.get(place.part.name) if place.label is None else None
            mapped[name] = f"{base}.{self._parameter(place)}" if module is None else f"{module}.{place.kind}"
        return mapped

    def _parameter(self, place: Place) -> str:
        if place.label is None:
            return f"{self.shared[place.part.name]}.{place.kind}"
        return f"{self.layers}.{place.label}.{self.layer[place.part.name]}.{place.kind}"


BERT_LAYOUT = Layout(
    shared={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.token_type": "embeddings.token_type_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "pooler": "pooler.dense",
    },
    layer={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    heads={
        "classification": {"pooler": "bert.pooler.dense", "classifier": "classifier"},
        "token-classification": {"classifier": "classifier"},
    },
)
_DENSE_IN_HEAD = {
    "classification": {"pooler": "classifier.dense", "classifier": "classifier.out_proj"},
    "token-classification": {"classifier": "classifier"},
}
ROBERTA_LAYOUT = replace(BERT_LAYOUT, heads=_DENSE_IN_HEAD)
MPNET_LAYOUT = Layout(
    shared={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "relative_bias": "encoder.relative_attention_bias",
        "embeddings.norm": "embeddings.LayerNorm",
        "pooler": "pooler.dense",
    },
    layer={
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "attention_output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    heads=_DENSE_IN_HEAD,
)
OWN_LAYOUT = Layout(
    shared={part.name: part.name for part in SHARED},
    layer={part.name: part.name for part in LAYER},
    heads={
        "classification": {"pooler": "stillroom.pooler", "classifier": "classifier"},
        "token-classification": {"classifier": "classifier"},
    },
    layers=LAYERS,
)
"""Layout of our own class, whose modules have the names of the parts."""
LAYOUTS = {
    "bert": BERT_LAYOUT,
    "roberta": ROBERTA_LAYOUT,
    "xlm-roberta": ROBERTA_LAYOUT,
    "mpnet": MPNET_LAYOUT,
    "stillroom": OWN_LAYOUT,
}
"""Layouts by model type."""
