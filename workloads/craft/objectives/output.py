"""The output term: match what an embedding model is used for, through a learned projection.

Relations of the last layer leave its output projection and feed-forward untrained; a student whose output
matters needs this term as well. Shape letters: B rows, L tokens, H hidden size of the student, T of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def pool(output_BLH: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Mean over the real tokens of each row: ``[B, H]``."""
    if mask_BL is None:
        return output_BLH.mean(1)
    weights = mask_BL[..., None].to(output_BLH.dtype)
    return (output_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)


def pooled_loss(
    output_BLH: Tensor, target_BT: Tensor, mask_BL: Tensor | None, rows: int, project: Callable[[Tensor], Tensor]
) -> Tensor:
    """Each row's share ``[B]`` of the mean of one minus the cosine of the projected pooled output to the teacher's."""
    student_BT = project(pool(output_BLH, mask_BL)).float()
    return (1 - F.cosine_similarity(student_BT, target_BT, dim=-1)) / rows


def token_loss(
    output_BLH: Tensor, target_BLT: Tensor, mask_BL: Tensor | None, tokens: int, project: Callable[[Tensor], Tensor]
) -> Tensor:
    """Each row's share ``[B]`` of the mean over real tokens and dimensions of the projected output's squared error."""
    squares = (project(output_BLH).float() - target_BLT).square().mean(-1)
    return (squares if mask_BL is None else squares * mask_BL).sum(1) / tokens
