"""Number formats that a device computes in."""

from __future__ import annotations

import contextlib

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 natively, so that it saves time."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, low: bool) -> contextlib.AbstractContextManager[None]:
    """Return a context in which matrix products run in bfloat16, if ``low``."""
    return torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()


def allow_tf32() -> None:
    """Let this process's float32 matrix products use TF32 on CUDA; elsewhere nothing changes."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
