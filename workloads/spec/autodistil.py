"""AutoDistil's part of a request (arXiv 2201.12507): its sub-spaces, how they are searched, and the paper's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from workloads.spec.errors import FieldError, InputError
from workloads.spec.part import Name, Part
from workloads.spec.request import MOST_SPACES, CompressionRequest, register_request
from workloads.spec.search import SearchSpec

LayerRule = Literal["to-last", "floor"]
"""Rule that spreads a student's layers over the teacher's: :func:`workloads.shapes.architecture.spread_layers`."""
_Depth = Annotated[int, Field(ge=1, le=1000)]
_Width = Annotated[int, Field(ge=1, le=2**17)]
_Ratio = Annotated[float, Field(gt=0, le=1000)]
_MOST_VALUES = 1024
"""Most values of a range."""
_SPACE_NAMES = {1: ["all"], 2: ["small", "base"], 3: ["tiny", "small", "base"]}
_PAPER_SPACES = 3


class SubspaceSpec(Part):
    """One sub-space written out by hand; the layers of each of its students are equal."""

    name: Name
    layers: list[_Depth] = Field(min_length=1, max_length=_MOST_VALUES, description="Numbers of layers.")
    hidden_sizes: list[_Width] = Field(min_length=1, max_length=_MOST_VALUES, description="Hidden sizes.")
    mlp_ratios: list[_Ratio] = Field(
        min_length=1, max_length=_MOST_VALUES, description="Feed-forward width over hidden size."
    )
    heads: list[_Width] | None = Field(
        None,
        min_length=1,
        max_length=_MOST_VALUES,
        description="Head counts, independent of the hidden size; default: hidden size / the teacher's head width.",
    )


class SubspacesSpec(Part):
    """The architectures that students are chosen from."""

    count: int = Field(3, ge=1, le=MOST_SPACES, description="K, the number of compact sub-spaces (and of SuperLMs).")
    preset: Literal["relative", "autodistil-paper"] = Field(
        "relative",
        description="relative: ranges relative to the teacher; autodistil-paper: the paper's three sub-spaces for "
        "12 x 768 teachers, with its objective and training as defaults.",
    )
    spaces: list[SubspaceSpec] | None = Field(
        None,
        min_length=1,
        max_length=MOST_SPACES,
        description="Sub-spaces written out by hand, instead of count and preset.",
    )
    importance: bool | None = Field(
        None,
        description="Order heads, neurons and hidden dimensions by importance before slicing; default: true, and false "
        "with the preset autodistil-paper.",
    )
    layer_rule: LayerRule | None = Field(
        None,
        description="Teacher layers that a student's layers start from. to-last: evenly spread, ending in the last; "
        "floor: floor(i L / d), as in the paper's code; default: to-last, and floor with the preset autodistil-paper.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SubspacesSpec:
        # A default contradicts nothing, since a stored request has all defaults written out.
        default = type(self).model_fields["count"].default
        findings = []
        if self.preset == "autodistil-paper" and self.count != _PAPER_SPACES:
            findings.append(
                FieldError(
                    "count",
                    f"The paper's preset has {_PAPER_SPACES} sub-spaces, not {self.count}.",
                    f"Leave 'count' out, or use the preset 'relative' for {self.count} of them.",
                )
            )
        if self.spaces is not None:
            names = [one.name for one in self.spaces]
            if self.preset != "relative":
                findings.append(
                    FieldError(
                        "preset",
                        f"The preset {self.preset!r} and 'spaces' written out by hand exclude each other.",
                        "Leave one of the two out.",
                    )
                )
            elif self.count not in {len(names), default}:
                findings.append(
                    FieldError(
                        "count",
                        f"It is {self.count}, but the length of 'spaces' is {len(names)}.",
                        "Leave 'count' out: with 'spaces' it is their number.",
                    )
                )
            findings += [
                FieldError(
                    f"spaces.{index}.name",
                    f"Two sub-spaces have the same name, {name!r}.",
                    "Give each a name of its own.",
                )
                for index, name in enumerate(names)
                if name in names[:index]
            ]
        if findings:
            raise InputError(findings)
        return self

    @property
    def names(self) -> list[str]:
        """Names of the sub-spaces; they do not depend on the teacher."""
        if self.spaces is not None:
            return [one.name for one in self.spaces]
        count = _PAPER_SPACES if self.preset == "autodistil-paper" else self.count
        return _SPACE_NAMES.get(count, [f"s{index + 1}" for index in range(count)])

    @property
    def ordered(self) -> bool:
        """Whether weights are ordered by importance before slicing; by default yes, but not with the paper's preset."""
        return self.importance if self.importance is not None else self.preset != "autodistil-paper"

    @property
    def spread(self) -> LayerRule:
        """Rule that spreads a student's layers over the teacher's."""
        return self.layer_rule or ("floor" if self.preset == "autodistil-paper" else "to-last")


PAPER_RECIPE: Mapping[str, Mapping[str, Any]] = {
    "subspaces": {"importance": False, "layer_rule": "floor"},
    "objective": {
        "relation": "raw-mse",
        "relation_heads": 12,
        "remainder": "drop",
        "relation_weights": (1.0, 1.0, 1.0),
    },
    "training": {
        "sequence_length": 128,
        "batch_size": 2048,
        "learning_rate": 4e-5,
        "schedule": "linear",
        "warmup_fraction": 0.0,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "dropout": 0.1,
        "random_subnets": 2,
        "smallest_every": 1,
    },
}
"""Defaults under the preset ``autodistil-paper``.

They are those of arXiv 2201.12507, or of its released code for settings that the paper does not give.
"""


class AutoDistilRequest(CompressionRequest):
    """A compression by AutoDistil."""

    method: Literal["autodistil"] = "autodistil"
    subspaces: SubspacesSpec = SubspacesSpec()
    search: SearchSpec = SearchSpec()

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, data: Any) -> Any:
        spaces = data.get("subspaces") if isinstance(data, dict) else None
        preset = spaces.get("preset") if isinstance(spaces, dict) else getattr(spaces, "preset", None)
        if preset != "autodistil-paper":
            return data
        return data | {name: _completed(data.get(name, {}), recipe) for name, recipe in PAPER_RECIPE.items()}

    @override
    def own_findings(self) -> list[FieldError]:
        tokens, placement, names = self.training.tokens_per_superlm, self.training.placement, self.subspaces.names
        findings = []
        if isinstance(tokens, dict) and set(tokens) != set(names):
            findings.append(
                FieldError(
                    "training.tokens_per_superlm",
                    f"It names {', '.join(sorted(tokens)) or 'nothing'}; the sub-spaces are {', '.join(names)}.",
                    "Give one number for all, or one for each of the sub-spaces.",
                )
            )
        if not isinstance(placement, str):
            placed = [name for group in placement for name in group]
            if sorted(placed) != sorted(names) or not all(placement):
                findings.append(
                    FieldError(
                        "training.placement",
                        f"Its groups hold {', '.join(sorted(placed)) or 'nothing'}; the sub-spaces are "
                        f"{', '.join(names)}.",
                        "Put every sub-space into exactly one group, or use 'auto'.",
                    )
                )
        return findings

    @property
    @override
    def heldout_rows(self) -> int:
        return self.search.heldout_blocks  # those of the last rung

    @property
    @override
    def orders_by_importance(self) -> bool:
        return self.subspaces.ordered

    @property
    def superlm_tokens(self) -> int:
        """Tokens that all SuperLMs together are trained on."""
        return sum(self.training.tokens_for(name) for name in self.subspaces.names)


def _completed(part: Any, defaults: Mapping[str, Any]) -> Any:
    """Fill in defaults for the fields that a part leaves out; other data stays as it is, and is refused later."""
    if isinstance(part, Part):
        return part.model_copy(
            update={name: one for name, one in defaults.items() if name not in part.model_fields_set}
        )
    return {**defaults, **part} if isinstance(part, dict) else part


register_request(AutoDistilRequest)
