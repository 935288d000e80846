"""The reference operators as `onnx.reference` classes, for `ReferenceEvaluator(model, new_ops=REFERENCE_OPS)`."""

from __future__ import annotations

from typing import Any, cast

from onnx.reference.op_run import OpRun

from reuse_compiler.reference.hold import hold
from reuse_compiler.reference.operators import (
    Clusters,
    centroid_gemm,
    cluster_vectors,
    gather_rows,
    hash_vectors,
    quantise_table,
)
from reuse_compiler.reference.pool import Pooling, PoolMode, pool
from reuse_compiler.reference.quantised import (
    Given,
    Hashing,
    Integers,
    Quantised,
    qlinear_reuse_conv,
    reuse_conv_integer,
)
from reuse_compiler.reference.redundancy import redundancy
from reuse_compiler.reference.session import Kept, cluster_with_kept
from reuse_compiler.reference.static_tables import static_convolution
from reuse_compiler.reuse.activation import NO_ACTIVATION, Activation
from reuse_compiler.reuse.config import DEFAULT_MEMORY, STREAM_MEMORY
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.fitted import HASH_PARAMETERS
from reuse_compiler.reuse.geometry import FROM_PIXEL_MAJOR, TO_PIXEL_MAJOR, Blocking, ConvSpec

DOMAIN = "ai.reuse"
NCHW = (0, 1, 2, 3)
CENTROIDS_AT = len(HASH_PARAMETERS) + len(("dense_weights", "dense_bias"))
"""Where the centroids of scope static are among the inputs of ReuseConv behind the bias."""


def present(value: Any) -> Any:
    """Returns an optional input, or None if it is absent (left out, or without elements)."""
    return None if value is None or value.size == 0 else value


class ReuseOp(OpRun):
    """Common to all: the domain, and the blocking from the node's attributes."""

    op_domain = DOMAIN

    def blocking(self, x: Any, out_channels: int) -> Blocking:
        """Returns how the attributes cut an input [N, Ic, H, W]."""
        names = ("strides", "pads", "dilations", "group", "auto_pad")
        weights = (out_channels, x.shape[1] // self.attribute("group", 1), *self.attribute("kernel_shape"))
        spec = ConvSpec.of(x.shape, weights, **{name: self.attribute(name) for name in names})
        return Blocking(spec, self.attribute("layout"), self.attribute("sub_vector_length"))

    def activation(self) -> Activation:
        """Returns what is done with each element of the result."""
        return Activation(*(self.attribute(name, value) for name, value in NO_ACTIVATION._asdict().items()))

    def attribute(self, name: str, default: Any = None) -> Any:
        """Returns an attribute of the node, or `default`."""
        value = getattr(self, name, None)
        return default if value is None else value


class Hash(ReuseOp):
    """codes = Hash(X, projections?, thresholds?, coordinates?)"""

    def _run(self, x: Any, *parameters: Any, **_: Any) -> tuple[Any]:
        # The number of output channels does not matter for hashing; it must be a multiple of the group.
        blocking = self.blocking(x, self.attribute("group", 1))
        return (hash_vectors(x, blocking, self.attribute("family"), HashParameters(*map(present, parameters))),)


class Clustering(ReuseOp):
    """Common to those that cluster. As in a session, a node of scope session keeps its clusters between runs."""

    kept: Kept | None = None

    def clusters(self, x: Any, codes: Any, blocking: Blocking, given: Any, cluster_bytes: int) -> Clusters:
        """Returns the clusters of a run, of which a kept one counts as `cluster_bytes`."""
        scope = self.attribute("scope", "batch")
        attributes = (
            self.attribute("capacity", 1.0),
            self.attribute("metric", "euclidean"),
            bool(self.attribute("verify", 0)),
        )
        if (given is not None) != (scope == "static"):
            raise ValueError(f"scope is {scope}: centroids are given to static, and to nothing else")
        if scope != "session":
            return cluster_vectors(x, codes, blocking, scope, *attributes, given)
        kept, memory = self.kept or Kept.nothing(blocking), self.attribute("memory", DEFAULT_MEMORY)
        clusters, self.kept = cluster_with_kept(x, codes, blocking, kept, cluster_bytes, memory, *attributes)
        return clusters


class Cluster(Clustering):
    """ids, centroids, counts = Cluster(X, codes, given?)"""

    def _run(self, x: Any, codes: Any, given: Any = None, **_: Any) -> tuple[Any, Any, Any]:
        blocking = self.blocking(x, self.attribute("group", 1))
        clusters = self.clusters(x, codes, blocking, given, 4 * blocking.sub_vector_length)
        return clusters.ids, clusters.centroids, clusters.counts


class CentroidGemm(ReuseOp):
    """table = CentroidGemm(centroids, counts, W, dense_weights?)"""

    def _run(self, centroids: Any, counts: Any, weights: Any, dense: Any = None, **_: Any) -> tuple[Any]:
        spec = ConvSpec.of((1, 0, *weights.shape[2:]), weights.shape, group=self.attribute("group", 1))
        blocking = Blocking(spec, self.attribute("layout"), centroids.shape[2])
        return (centroid_gemm(centroids, counts, weights, blocking),)


class Gather(ReuseOp):
    """Y = Gather(table, ids, X, bias?, dense_bias?)"""

    def _run(self, table: Any, ids: Any, x: Any, bias: Any = None, dense: Any = None, **_: Any) -> tuple[Any]:
        group = self.attribute("group", 1)
        taps = 1
        if self.attribute("layout") == "channel":
            taps = self.attribute("kernel_shape")[0] * self.attribute("kernel_shape")[1]
        blocking = self.blocking(x, table.shape[2] // taps * group)
        return (gather_rows(table, ids, blocking, present(bias), self.activation()),)


class ReuseConv(Clustering):
    """Y = ReuseConv(X, W, bias?, projections?, thresholds?, coordinates?, dense_weights?, dense_bias?, centroids?)"""

    def _run(self, x: Any, weights: Any, bias: Any = None, *others: Any, **_: Any) -> tuple[Any]:
        parameters = others[: len(HASH_PARAMETERS)]
        x = x.transpose(self.attribute("input_perm", NCHW))
        blocking = self.blocking(x, weights.shape[0])
        codes = hash_vectors(x, blocking, self.attribute("family"), HashParameters(*map(present, parameters)))
        given = present(others[CENTROIDS_AT]) if len(others) > CENTROIDS_AT else None
        clusters = self.clusters(x, codes, blocking, given, blocking.kept_cluster_bytes)
        table_type = self.attribute("table", "float")
        if given is not None:
            y = static_convolution(clusters, given, weights, blocking, table_type, present(bias), self.activation())
            return (y.transpose(self.attribute("output_perm", NCHW)),)
        table = None
        if table_type == "int8":
            table = quantise_table(clusters.centroids, clusters.counts, weights, blocking)
        if table is None:
            table = centroid_gemm(clusters.centroids, clusters.counts, weights, blocking)
        y = gather_rows(table, clusters.ids, blocking, present(bias), self.activation())
        return (y.transpose(self.attribute("output_perm", NCHW)),)


class QLinearReuseConv(ReuseOp):
    """y = QLinearReuseConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B?,
    projections?, thresholds?, coordinates?, centroids?, fitted_weights?, fitted_bias?)
    """

    def _run(self, *inputs: Any, **_: Any) -> tuple[Any]:
        x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point = inputs[:8]
        bias, *others = [*map(present, inputs[8:]), *[None] * 7][:7]
        given = Quantised(x.transpose(FROM_PIXEL_MAJOR), x_zero_point, scale=x_scale)
        weights = Quantised(w, w_zero_point, scale=w_scale)
        blocking, scope = self.blocking(given.values, w.shape[0]), self.attribute("scope", "batch")
        family, hashing = self.attribute("family", "exact"), None
        if not FAMILIES[family].lossless:
            hashing = Hashing(family, HashParameters(*others[: len(HASH_PARAMETERS)]))
        if scope == "static":
            scope = Given(*others[len(HASH_PARAMETERS) :])
        y = qlinear_reuse_conv(given, weights, y_scale, y_zero_point, bias, blocking, scope, hashing)
        return (y.transpose(TO_PIXEL_MAJOR),)


class ReuseConvInteger(ReuseOp):
    """y = ReuseConvInteger(x, w, x_zero_point, w_zero_point, scale, B?)"""

    def _run(self, x: Any, w: Any, x_zero_point: Any, w_zero_point: Any, scale: Any, *bias: Any, **_: Any) -> Any:
        given = Integers(x.transpose(FROM_PIXEL_MAJOR), x_zero_point)
        blocking, scope = self.blocking(given.values, w.shape[0]), self.attribute("scope", "batch")
        biases = present(bias[0]) if bias else None
        y = reuse_conv_integer(given, Integers(w, w_zero_point), scale, biases, blocking, scope)
        return (y.transpose(TO_PIXEL_MAJOR),)


class MaxPool(ReuseOp):
    """Y = MaxPool(X)"""

    mode: PoolMode = "max"

    def _run(self, x: Any, **_: Any) -> tuple[Any]:
        pooling = Pooling(
            self.mode,
            tuple(self.attribute("kernel_shape")),
            tuple(self.attribute("strides", (1, 1))),
            tuple(self.attribute("pads", (0, 0, 0, 0))),
            self.attribute("auto_pad", "NOTSET"),
            bool(self.attribute("ceil_mode", 0)),
            bool(self.attribute("count_include_pad", 0)),
        )
        return (pool(x, pooling),)


class AveragePool(MaxPool):
    """Y = AveragePool(X)"""

    mode = "average"


class Redundancy(ReuseOp):
    """enough, shares? = Redundancy(X)"""

    def _run(self, x: Any, **_: Any) -> tuple[Any, ...]:
        defaults = {"strides": None, "threshold": 0.0, "samples": 256, "channels": 8}
        others = {name: self.attribute(name, default) for name, default in defaults.items()}
        results = redundancy(x, self.attribute("windows"), self.attribute("gains"), **others)
        return results[: len(self.onnx_node.output)]


class Hold(ReuseOp):
    """Y = Hold(X)

    As in a session, a node keeps its state between runs.
    """

    held: Any = None

    def _run(self, x: Any, **_: Any) -> tuple[Any]:
        defaults = {"opening": 0, "dilation": 0, "patience": 0, "axis": 1}
        others = {name: self.attribute(name, default) for name, default in defaults.items()}
        held, _changed = hold(x, self.held, self.attribute("tolerances"), **others)
        bytes_kept = x.nbytes + (held.halfway.size if self.attribute("patience", 0) else 0)
        self.held = held if bytes_kept <= self.attribute("memory", STREAM_MEMORY) else None
        return (held.image,)


REFERENCE_OPS = cast(
    "list[type[OpRun]]",
    [
        Hash,
        Cluster,
        CentroidGemm,
        Gather,
        ReuseConv,
        QLinearReuseConv,
        ReuseConvInteger,
        MaxPool,
        AveragePool,
        Redundancy,
        Hold,
    ],
)
