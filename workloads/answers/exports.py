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
    hidden_cosine: float = Field(description="Cosine of the last hidden states, mean over tokens.")
    hidden_error: float = Field(ge=0, description="Relative error of the last hidden states.")
    pooled_cosine: float = Field(description="Cosine of the mean-pooled outputs, mean over rows.")
    pooled_cosine_worst: float = Field(description="Least cosine of the mean-pooled outputs of a row.")
    pooled_error: float = Field(ge=0, description="Relative error of the mean-pooled outputs.")
