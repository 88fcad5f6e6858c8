"""Reports on the files exported beside a student. Light to import."""

from __future__ import annotations

from pydantic import Field

from workloads.spec.part import Part


class QuantisationReport(Part):
    """Error and size of an int8 ONNX file against the float32 one, measured on held-out rows.

    Outputs at padding do not count. An error is the norm of the difference divided by the norm of the float32 output.
    """

    float32_bytes: int = Field(gt=0, description="Size of model.onnx in bytes, including a file of weights beside it.")
    int8_bytes: int = Field(
        gt=0, description="Size of model.int8.onnx in bytes, including a file of weights beside it."
    )
    rows: int = Field(gt=0, description="Held-out rows measured on.")
    tokens: int = Field(gt=0, description="Tokens of these rows, padding not counted.")
    hidden_cosine: float | None = Field(
        description="Cosine of the last hidden states, mean over tokens; null for a classifier, whose file has none."
    )
    hidden_error: float | None = Field(ge=0, description="Relative error of the last hidden states.")
    pooled_cosine: float | None = Field(description="Cosine of the mean-pooled outputs, mean over rows.")
    pooled_cosine_worst: float | None = Field(description="Least cosine of the mean-pooled outputs of a row.")
    pooled_error: float | None = Field(ge=0, description="Relative error of the mean-pooled outputs.")
    head_error: float | None = Field(
        None, ge=0, description="Relative error of the head's output, logits or vectors; null for an encoder."
    )

    @property
    def outputs(self) -> list[tuple[str, float | None, float]]:
        """The compared outputs: name, mean cosine and relative error."""
        rows = [
            ("Last hidden states", self.hidden_cosine, self.hidden_error),
            ("Mean-pooled", self.pooled_cosine, self.pooled_error),
            ("Logits or vectors", None, self.head_error),
        ]
        return [(name, cosine, error) for name, cosine, error in rows if error is not None]
