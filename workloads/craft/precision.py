"""Setting of PyTorch in a worker: threads, and the number formats that its device computes in."""

from __future__ import annotations

import contextlib

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 natively, so that it saves time."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, low: bool) -> contextlib.AbstractContextManager[None]:
    """Return a context in which matrix products run in bfloat16, if ``low``."""
    return torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()


def set_up_torch(threads: int) -> None:
    """Set the number of threads, and let float32 matrix products use TF32 on CUDA.

    Every process that trains or scores on a worker calls it once. The one that measures latency does not: it measures
    what a student's users get, with PyTorch's own settings.
    """
    torch.set_num_threads(max(1, threads))
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
