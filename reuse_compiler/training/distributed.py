"""What ranks of distributed training agree on. Without torch.distributed, or with one process, every value is its own.

Nothing here imports PyTorch: where it is not imported, nothing is distributed.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

T = TypeVar("T")


def agreed(value: float) -> float:
    """Returns the mean of all ranks' values, the same number on each."""
    distributed = _distributed()
    if distributed is None:
        return value
    import torch

    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    distributed.broadcast(total, 0)  # sums may be rounded differently on each rank
    return float(total) / float(distributed.get_world_size())


def from_first_rank(value: T) -> T:
    """Returns the first rank's object."""
    distributed = _distributed()
    if distributed is None:
        return value
    box = [value]
    distributed.broadcast_object_list(box, 0)
    return box[0]


def _distributed() -> Any:
    """torch.distributed if there are several ranks."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed if torch.distributed.get_world_size() > 1 else None
