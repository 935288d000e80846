"""`ReuseConv2d`: a drop-in for Conv2d that clusters its input and computes from centroids, forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.reuse.seeds import layer_generator
from reuse_compiler.training.cluster_memory import ClusterMemory
from reuse_compiler.training.clustering import cluster
from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.function import Gradient, ReuseConvolution
from reuse_compiler.training.shapes import ANY_SIZE, spec_of
from reuse_compiler.training.soft_hash import SoftHash
from reuse_compiler.training.static_centroids import Distance, ReplacedInput, give_centroids
from reuse_compiler.training.torch_clusters import neuron_vectors

OWN_PARAMETERS = ("hyperplanes", "centroids")
"""Those that Conv2d does not have; they are no part of the state_dict."""
SOFT_SAMPLE = 512
"""Vectors of a block that the gradient through the soft hash looks at."""


@dataclass
class ReuseCounts:
    """What a layer's forward passes did since they were counted from."""

    runs: int = 0
    rows: int = 0
    """Rows of the unfolded input (N)."""
    vectors: int = 0
    """Neuron vectors, summed over blocks."""
    clusters: int = 0
    """Summed over blocks."""
    known: int = 0
    """Vectors whose cluster an earlier batch had made; counted with cluster reuse only."""
    blocks: int = 0

    @property
    def remaining_ratio(self) -> float:
        """r_c, the mean over blocks and runs."""
        return self.clusters / (self.blocks * self.rows) if self.rows else 0.0

    @property
    def reuse_rate(self) -> float:
        """R of Eq. 6."""
        return self.known / self.vectors if self.vectors else 0.0


class ReuseConv2d(nn.Conv2d):
    """A convolution with reuse; weights, bias and state_dict are those of Conv2d.

    `settings` say how its input is clustered. Hash parameters are drawn from `seed` and `name` unless given (they are
    no part of the state_dict: `training.state`). With `reuse` off it is a plain Conv2d. `cluster_reuse` is the papers'
    flag CR. `soft_hash` (family `sign` only) makes the hyperplanes parameters that are trained; its temperature is in
    units of the projections. With scope `static` the `centroids` `[B, 2^H, L]` are parameters that are trained. Tensors
    of float32 on the CPU are computed by the operator library, on as many threads as PyTorch uses, others in PyTorch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *arguments: Any,
        settings: LayerSettings,
        name: str = "",
        seed: int = 0,
        gradient: Gradient = "averaged",
        soft_hash: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *arguments, **options)
        self._begin(settings, name, seed, gradient, soft_hash)

    @staticmethod
    def of(
        conv: nn.Conv2d,
        settings: LayerSettings,
        name: str = "",
        seed: int = 0,
        gradient: Gradient = "averaged",
        soft_hash: float | None = None,
    ) -> ReuseConv2d:
        """Returns a layer with the very parameters of `conv`, so that optimizers keep knowing them."""
        layer = ReuseConv2d.__new__(ReuseConv2d)
        nn.Module.__init__(layer)
        _take_over(conv, layer)
        layer._begin(settings, name, seed, gradient, soft_hash)
        return layer

    def to_conv(self) -> nn.Conv2d:
        """Returns a plain Conv2d with the very parameters of this layer."""
        conv = nn.Conv2d.__new__(nn.Conv2d)
        nn.Module.__init__(conv)
        _take_over(self, conv)
        return conv

    def _begin(
        self, settings: LayerSettings, name: str, seed: int, gradient: Gradient, soft_hash: float | None
    ) -> None:
        if refusal := refusal_of(self):
            raise ConfigError(f"layer '{name}': {refusal}")
        if soft_hash is not None and (settings.family != "sign" or not 0.0 < soft_hash < math.inf):
            raise ConfigError("soft_hash is a finite temperature above 0, and needs family 'sign'")
        self.layer_name, self.seed, self.gradient, self.soft_hash = name, seed, gradient, soft_hash
        self.reuse = True
        self.counts = ReuseCounts()
        self.spec: ConvSpec | None = None
        """Of the last input in training."""
        self.distances: list[Tensor] | None = None
        """Takes those of inputs from their fixed centroids, squared and relative, with a gradient for the input: what
        keeps it near to them (the commitment loss of VQ-VAE). Only where the input itself is replaced."""
        self._memory: ClusterMemory | None = None
        self.set_settings(settings)

    @property
    def settings(self) -> LayerSettings:
        """How the input is clustered."""
        return self._settings

    @property
    def parameters_of_hash(self) -> HashParameters:
        """The hash parameters; those of a soft hash as they have been trained so far."""
        if self.soft_hash is None:
            return self._hash
        trained = self.hyperplanes.detach().cpu().contiguous().numpy()
        return HashParameters(projections=trained, thresholds=self._hash.thresholds)

    @property
    def plan(self) -> LayerPlan:
        """What the compiler needs to compute this layer, its centroids as they have been trained so far."""
        centroids = None
        if self._settings.scope == "static":
            centroids = self.centroids.detach().float().cpu().contiguous().numpy()
        return LayerPlan(spec_of(self, ANY_SIZE), self._settings, self.parameters_of_hash, centroids=centroids)

    def set_settings(
        self,
        settings: LayerSettings,
        parameters: HashParameters | None = None,
        centroids: NDArray[np.float32] | None = None,
    ) -> None:
        """Changes how the input is clustered; scope `static`, and no other, needs `centroids` `[B, 2^H, L]`.

        Without `parameters` they are drawn anew (not for family `learned`).
        """
        blocking = self.blocking(settings, ANY_SIZE)
        if settings.scope == "session":
            raise ConfigError("scope 'session' is for inference: train with scope 'batch' and cluster_reuse")
        if parameters is None:
            generator = layer_generator(self.seed, self.layer_name)
            parameters = FAMILIES[settings.family].random_parameters(
                generator, blocking.num_blocks, settings.sub_vector_length, settings.num_hashes
            )
        LayerPlan(blocking.spec, settings, parameters, centroids=centroids).check(self.layer_name)
        if self._memory is not None:
            check_cluster_reuse(settings)
            self._memory = ClusterMemory()
        self._settings, self._hash = settings, parameters
        self._set_centroids(centroids)
        if self.soft_hash is not None:
            self._set_hyperplanes(torch.from_numpy(parameters.projections))

    @property
    def cluster_reuse(self) -> bool:
        """The papers' CR: clusters of earlier batches keep their centroids. What is known is forgotten with it."""
        return self._memory is not None

    @cluster_reuse.setter
    def cluster_reuse(self, wanted: bool) -> None:
        if wanted:
            check_cluster_reuse(self._settings)
        if wanted != self.cluster_reuse:
            self._memory = ClusterMemory() if wanted else None

    def blocking(self, settings: LayerSettings, shape: Sequence[int | None]) -> Blocking:
        """Returns how settings cut an input `[N, Ic, H, W]`; raises ConfigError if L does not fit."""
        blocking = settings.blocking(spec_of(self, shape))
        if settings.sub_vector_length > blocking.group_width:
            what = "columns" if settings.layout == "patch" else "channels"
            raise ConfigError(
                f"layer '{self.layer_name}': L={settings.sub_vector_length}, but a group has only "
                f"{blocking.group_width} {what}"
            )
        return blocking

    def clusters_of(self, x: Tensor) -> InputClusters:
        """Clusters an input `[N, Ic, H, W]` as the forward pass does, without counting or remembering it."""
        static = self._settings.scope == "static"
        settings = self._settings.model_copy(update={"scope": "batch"}) if static else self._settings
        keep_codes = static or self.cluster_reuse or self.soft_hash is not None
        clusters = cluster(x, self.blocking(settings, x.shape), settings, self.parameters_of_hash, keep_codes)
        if static:
            give_centroids(clusters, self.centroids)
        return clusters

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolution of `[N, Ic, H, W]`; without reuse, or in an empty batch, as Conv2d computes it."""
        if x.dim() != 4:
            raise DataError(f"layer '{self.layer_name}': the input has shape {list(x.shape)}, must be [N, Ic, H, W]")
        spec = spec_of(self, x.shape)
        if self.training or self.spec is None:
            self.spec = spec
        if not self.reuse or not spec.rows:
            return super().forward(x)
        if x.dtype != self.weight.dtype:  # autocast: the kernels compute in the precision of the weights
            x = x.to(self.weight.dtype)
        clusters = self.clusters_of(x)
        known = 0 if self._memory is None else self._memory.recall(clusters)
        if self.training:
            self._count(clusters, known)
        if self._replaces_input and torch.is_autocast_enabled(x.device.type):
            replaced = ReplacedInput.apply(x, self.centroids, clusters)
            if self.distances is not None:
                self.distances.append(Distance.apply(x, replaced.detach()))
            return super().forward(replaced)
        soft = self._soft(x, clusters) if self.soft_hash is not None and torch.is_grad_enabled() else None
        projections = None if soft is None else self.hyperplanes
        centroids = self._parameters.get("centroids")
        y: Tensor = ReuseConvolution.apply(
            x, self.weight, self.bias, projections, centroids, clusters, self.gradient, soft
        )
        return y

    @property
    def _replaces_input(self) -> bool:
        """Whether vectors can be replaced where they stand, with their own deltas; in layout `patch` they overlap."""
        settings = self._settings
        return settings.scope == "static" and settings.layout == "channel" and self.gradient != "averaged"

    def extra_repr(self) -> str:
        s = self._settings
        state = "" if self.reuse else ", reuse off"
        return f"{super().extra_repr()}, {s.family}, {s.layout}, L={s.sub_vector_length}, H={s.num_hashes}{state}"

    def _count(self, clusters: InputClusters, known: int) -> None:
        blocking = clusters.blocking
        self.counts.runs += 1
        self.counts.rows += blocking.spec.rows
        self.counts.blocks = blocking.num_blocks
        self.counts.vectors += blocking.num_blocks * blocking.vectors
        self.counts.clusters += clusters.count
        self.counts.known += known

    def _soft(self, x: Tensor, clusters: InputClusters) -> SoftHash:
        blocking = clusters.blocking
        places = torch.randint(blocking.vectors, (min(SOFT_SAMPLE, blocking.vectors),), device=x.device)
        assert self.soft_hash is not None
        return SoftHash(
            projections=self.hyperplanes,
            thresholds=torch.as_tensor(self._hash.thresholds, dtype=x.dtype, device=x.device),
            vectors=neuron_vectors(x.detach(), blocking)[:, places],
            places=places,
            temperature=self.soft_hash,
        )

    def _set_hyperplanes(self, values: Tensor) -> None:
        if "hyperplanes" not in self._parameters:
            self.hyperplanes = nn.Parameter(values.to(self.weight))
        elif self.hyperplanes.shape == values.shape:
            with torch.no_grad():  # the same parameter, which an optimizer may know
                self.hyperplanes.copy_(values)
        else:
            raise ConfigError("with soft_hash L and H are fixed: their hyperplanes are parameters that are trained")

    def _set_centroids(self, values: NDArray[np.float32] | None) -> None:
        if values is None:
            self._parameters.pop("centroids", None)
            return
        before, wanted = self._parameters.get("centroids"), torch.from_numpy(values)
        if before is None or before.shape != wanted.shape:
            self.centroids = nn.Parameter(wanted.to(self.weight, copy=True))
        else:
            with torch.no_grad():  # the same parameter, which an optimizer may know
                before.copy_(wanted)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in OWN_PARAMETERS:
            destination.pop(f"{prefix}{name}", None)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, own, unexpected_keys, error_msgs)
        missing_keys += [key for key in own if key.removeprefix(prefix) not in OWN_PARAMETERS]


def refusal_of(conv: nn.Conv2d) -> str | None:
    """Returns why a convolution cannot be computed with reuse, or None."""
    if conv.padding_mode != "zeros":
        return f"its padding is '{conv.padding_mode}', reuse knows padding with zeros only"
    if conv.groups > 1 and conv.in_channels == conv.groups:
        return "it is depthwise: every output channel reads one input channel only"
    if not conv.weight.dtype.is_floating_point:
        return f"its weights are {conv.weight.dtype}"
    return None


def until_fitted(settings: LayerSettings) -> LayerSettings:
    """Returns what a layer can compute before its hash is fitted: the same without loss, if the hash has to be."""
    if not is_fitted(settings):
        return settings
    return settings.model_copy(update={"family": "exact", "scope": "batch"})


def is_fitted(settings: LayerSettings) -> bool:
    """Returns whether a layer needs samples of its input to begin with: for its hash, or for its centroids."""
    return FAMILIES[settings.family].needs_samples or settings.scope == "static"


def check_cluster_reuse(settings: LayerSettings) -> None:
    """Raises ConfigError unless clusters of settings have a meaning beyond their batch."""
    if FAMILIES[settings.family].lossless or settings.scope != "batch" or settings.capacity < 1.0:
        raise ConfigError("cluster reuse across batches needs a family that is not lossless, scope 'batch', capacity 1")


def _take_over(source: nn.Conv2d, target: nn.Conv2d) -> None:
    """Gives `target` the configuration, parameters and mode of `source`."""
    for name in (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "transposed",
        "output_padding",
        "groups",
        "padding_mode",
        "_reversed_padding_repeated_twice",
    ):
        setattr(target, name, getattr(source, name))
    target.weight = source.weight
    target.bias = source.bias
    target.training = source.training
