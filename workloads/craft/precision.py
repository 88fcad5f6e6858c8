"""Number formats that a device computes in."""

from __future__ import annotations

import contextlib

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native there, and so worth it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, low: bool) -> contextlib.AbstractContextManager[None]:
    """Let matrix products run in bfloat16, if ``low``."""
    return torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()


def allow_tf32() -> None:
    """Let float32 matrix products use TF32 on CUDA; elsewhere nothing changes. To be called once in each worker."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
