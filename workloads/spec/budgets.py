"""Budgets: limits on a student's cost, floors of its fidelity, and the targets that latency is measured on."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from workloads.spec.part import DEFAULT_LENGTH, MOST_LENGTH, Name, Part, Word

Dtype = Literal["float32", "bfloat16", "float16"]
MOST_PARAMS, MOST_BYTES = 10**15, 10**15
LIMITS = (
    "max_params",
    "max_params_without_embeddings",
    "max_flops",
    "max_weight_bytes",
    "max_activation_bytes",
    "max_latency_ms",
)
"""The fields of a budget that limit a cost."""
FLOORS = ("min_agreement", "min_cosine", "min_neighbours", "min_spearman")
"""The fields of a budget that a student's fidelity must reach."""
Minimised = Literal["latency", "flops", "params"]


class LatencyTarget(Part):
    """A target: where and how latency is measured."""

    name: Name
    device: Literal["cpu", "cuda"] = Field("cpu", description="Kind of device.")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads, each on a core of its own.")
    batch_size: int = Field(1, ge=1, le=4096, description="Sequences of a batch.")
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=1,
        le=MOST_LENGTH,
        description="Tokens of each sequence; default: 128, or the teacher's longest input if that is shorter.",
    )
    dtype: Dtype = Field("float32", description="Number format of weights and activations.")
    runtime: Literal["eager", "compiled", "onnx"] = Field(
        "eager", description="eager: PyTorch; compiled: PyTorch with torch.compile; onnx: ONNX Runtime."
    )
    resource: Word | None = Field(
        None, description="Ray resource that only the nodes of this target have; null: any node."
    )
    warm_ups: int = Field(10, ge=1, le=10_000, description="Forward passes before timing.")
    runs: int = Field(60, ge=10, le=100_000, description="Timed forward passes of each model.")

    @model_validator(mode="after")
    def _possible(self) -> LatencyTarget:
        if self.runtime == "onnx" and (self.dtype != "float32" or self.device != "cpu"):
            raise ValueError(
                "ONNX Runtime is measured on a CPU in float32. Use 'device' cpu and 'dtype' float32, or a PyTorch "
                "'runtime'."
            )
        return self


class Budget(Part):
    """Limits on the cost of a student, and floors of its fidelity; all hold at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [one], "properties": {one: {"not": {"type": "null"}}}} for one in (*LIMITS, *FLOORS)]
        }
    )

    name: Name
    max_params: int | None = Field(None, gt=0, le=MOST_PARAMS, description="Parameters, embeddings included.")
    max_params_without_embeddings: int | None = Field(
        None, gt=0, le=MOST_PARAMS, description="Parameters less the word, position and token-type tables."
    )
    max_flops: int | None = Field(
        None, gt=0, le=10**18, description="Multiply-accumulates of one sequence of sequence_length tokens."
    )
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=1,
        le=MOST_LENGTH,
        description="Tokens that max_flops and max_activation_bytes are counted at; default: 128, or the teacher's "
        "longest input if that is shorter.",
    )
    max_weight_bytes: int | None = Field(None, gt=0, le=MOST_BYTES, description="Bytes of all weights in weight_dtype.")
    weight_dtype: Dtype = Field("float32", description="Number format that max_weight_bytes is counted in.")
    max_activation_bytes: int | None = Field(
        None,
        gt=0,
        le=MOST_BYTES,
        description="Peak bytes of activations of one sequence of sequence_length tokens, in float32.",
    )
    max_latency_ms: float | None = Field(
        None, gt=0, le=10**7, description="Milliseconds of one forward pass, as measured on latency_target."
    )
    latency_target: Name | None = Field(
        None, description="Name of the target that latency is measured on: for max_latency_ms, and to minimise it."
    )
    latency_percentile: Literal["p50", "p95"] = Field(
        "p50", description="Percentile that max_latency_ms limits, and that is minimised."
    )
    min_agreement: float | None = Field(
        None, gt=0, le=1, description="Least share of rows (tokens) with the teacher's label."
    )
    min_cosine: float | None = Field(
        None, gt=0, le=1, description="Least mean cosine of the student's vectors to the teacher's."
    )
    min_neighbours: float | None = Field(
        None, gt=0, le=1, description="Least share of the teacher's ten nearest rows that the student finds too."
    )
    min_spearman: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Least Spearman correlation with the teacher: of the values, or of the similarities of pairs.",
    )
    minimise: Minimised | None = Field(
        None, description="The cost to minimise among the candidates that reach the floors; null: the held-out loss."
    )

    @model_validator(mode="after")
    def _some_limit(self) -> Budget:
        if not self.limits and not self.floors:
            raise ValueError(
                f"The budget limits nothing. Set one of {', '.join(map(repr, LIMITS))}, or a floor: one of "
                f"{', '.join(map(repr, FLOORS))}."
            )
        if self.minimise is not None and not self.floors:
            raise ValueError(
                f"'minimise' without a floor would give the worst student. Set one of {', '.join(map(repr, FLOORS))}, "
                "or leave it out."
            )
        if self.minimise == "latency" and self.latency_target is None:
            raise ValueError(
                "'minimise' latency means nothing without the place it is measured on. Set 'latency_target' to the "
                "name of a target of the service or of the request's 'latency_targets'."
            )
        if self.max_latency_ms is not None and self.latency_target is None:
            raise ValueError(
                "'max_latency_ms' means nothing without the place it is measured on. Set 'latency_target' to the "
                "name of a target of the service or of the request's 'latency_targets'."
            )
        if self.latency_target is not None and not self.needs_latency:
            raise ValueError(
                "'latency_target' limits nothing by itself. Set 'max_latency_ms', or 'minimise' to latency, or leave "
                "it out."
            )
        return self

    @property
    def needs_latency(self) -> bool:
        """Whether the answer depends on the latency on the target."""
        return self.max_latency_ms is not None or self.minimise == "latency"

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by field name."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}

    @property
    def floors(self) -> dict[str, float]:
        """The floors that are set, by field name."""
        return {name: value for name in FLOORS if (value := getattr(self, name)) is not None}
