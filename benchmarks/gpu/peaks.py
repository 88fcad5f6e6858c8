"""Peak rates of cards, from NVIDIA's data sheets."""

from __future__ import annotations

PEAKS = {
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H200": 989.4,
    "NVIDIA L4": 121.0,
    "NVIDIA L40S": 362.0,
}
"""Dense bfloat16 matrix products in TFLOP/s, by the name that the driver gives the card."""


def share_of_peak(tflops: float, card: str | None) -> float | None:
    """Return achieved over peak; None for a card that the table does not have, or none."""
    peak = None if card is None else PEAKS.get(card)
    return None if peak is None else tflops / peak
