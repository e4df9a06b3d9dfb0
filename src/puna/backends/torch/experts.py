"""Products with one matrix for each expert: few rows gather their matrices, many go expert by expert."""

from __future__ import annotations

from typing import Any

import torch

from puna.backends.torch.blocks import Tensor
from puna.backends.torch.values import Packed, product, rows_of

FEW = 8
"""Choices of a run up to which matrices are gathered: nothing waits for the device then."""


def experts(x: Tensor, w: Tensor | Packed, ids: Tensor, bias: Any) -> Tensor:
    """x[t] @ w[ids[t, j]].T + bias[ids[t, j]], 0 where an id is below 0: (T, k, N)."""
    chosen = ids >= 0
    flat, (count, n) = ids.clamp(min=0).reshape(-1).long(), (ids.numel(), w.shape[1])
    rows = (x[:, None].expand(*ids.shape, -1) if x.dim() == 2 else x).reshape(count, w.shape[2])
    if count <= FEW:
        y = (rows_of(w, flat) @ rows[:, :, None])[:, :, 0]
    else:
        y = torch.empty((count, n), dtype=torch.float32, device=x.device)
        order, sizes = torch.argsort(flat, stable=True), torch.bincount(flat, minlength=w.shape[0]).tolist()
        start = 0
        for expert, size in enumerate(sizes):
            if size:
                mine = order[start : start + size]
                y[mine] = product(rows[mine], w, expert * n, (expert + 1) * n)
                start += size
    y = y if bias is None else y + rows_of(bias, flat)
    return torch.where(chosen[..., None], y.reshape(*ids.shape, n), 0.0)
