"""Which code clusters an input: the library's where it can, PyTorch's elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.library import has_cuda
from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.cuda_clusters import CudaClusters
from reuse_compiler.training.library_clusters import LibraryClusters
from reuse_compiler.training.torch_clusters import TorchClusters


def cluster(
    x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters, keep_codes: bool = False
) -> InputClusters:
    """Clusters the neuron vectors of `x [N, Ic, H, W]`.

    float32 on the CPU, or on a GPU that the library was built for, is computed by the library, all else in PyTorch.
    """
    if x.dtype == torch.float32 and x.device.type == "cpu":
        return LibraryClusters(x, blocking, settings, parameters, keep_codes)
    if x.dtype == torch.float32 and x.device.type == "cuda" and has_cuda():
        return CudaClusters(x, blocking, settings, parameters, keep_codes)
    return TorchClusters.of(x, blocking, settings, parameters)
