"""r_c against accuracy: the inference paper's Fig. 6 and the training paper's Fig. 7 and 8, by `tools.similarity`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from models import builders, datasets, preprocessing
from reuse_compiler.calibration.samples import open_samples
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.verification.inputs import model_inputs
from tools.papers.results import Curve, Curves, Point
from tools.similarity.options import MethodName, SimilarityOptions
from tools.similarity.study import study_similarity

BATCH = 64
HASHES = (5, 10, 15, 20, 30, 40, 60)
CLUSTERS = (0.003, 0.01, 0.03, 0.1, 0.3)
MAX_CLUSTERS = 400
"""K-means with more takes too long, as in the papers."""


@dataclass(frozen=True)
class Study:
    """What is drawn of one layer: curves of LSH over a batch, or of K-means in all scopes and distances."""

    network: str
    layer: str
    method: MethodName
    lengths: tuple[int, ...]
    """0 stands for whole rows."""
    images: int

    def options(self) -> SimilarityOptions:
        lsh: dict[str, Any] = {"scopes": ("batch",), "metrics": ("angular",), "hashes": HASHES}
        kmeans = {"clusters": CLUSTERS, "max_clusters": MAX_CLUSTERS}
        return SimilarityOptions(
            layers=f"^{self.layer}$",
            methods=(self.method,),
            lengths=self.lengths,
            batch=BATCH,
            **(lsh if self.method == "lsh" else kmeans),
        )


STUDIES = (
    Study("cifarnet", "conv1", "lsh", (5, 10, 25, 0), 128),
    Study("cifarnet", "conv2", "lsh", (5, 10, 25, 100, 400, 0), 128),
    Study("cifar_vgg", "conv3_2", "lsh", (8, 16, 64, 256, 0), 128),
    Study("cifar_vgg", "conv2_2", "lsh", (8, 16, 64, 0), 64),
    Study("cifar_vgg", "conv1_2", "lsh", (8, 16, 64, 0), 64),
    Study("cifar_vgg", "conv3_2", "kmeans", (16, 0), 64),
)


def measure_curves(studies: tuple[Study, ...], progress: ProgressCallback, done: Callable[[Curves], None]) -> None:
    """Makes the studies; calls `done` with the curves so far after each."""
    found = Curves(curves=[])
    for study in studies:
        found.curves += curves_of(study, builders.trained(study.network), progress)
        done(found)


def curves_of(study: Study, model: onnx.ModelProto, progress: ProgressCallback) -> list[Curve]:
    """Returns the curves of one study, on test images of CIFAR-10."""
    photos, labels = datasets.images("cifar10_test", study.images)
    x = preprocessing.CIFAR10(photos)
    with TemporaryDirectory() as folder:
        data, classes = Path(folder) / "x.npy", Path(folder) / "labels.npy"
        np.save(data, x)
        np.save(classes, labels)
        samples = open_samples(data, model_inputs(model), {"x": (BATCH, *x.shape[1:])}, classes)
        report = study_similarity(model, samples, study.options(), folder=Path(folder), progress=progress)
    (layer,) = report.layers
    curves: dict[tuple[Any, ...], list[Point]] = {}
    for own in layer.points:
        assert own.accuracy is not None
        point = (own.effort, round(own.r_c, 5), round(own.accuracy, 4))
        curves.setdefault((own.scope, own.metric, own.L), []).append(point)
    assert report.original is not None
    return [
        Curve(
            network=study.network,
            layer=study.layer,
            K=layer.K,
            images=study.images,
            original=report.original,
            method=study.method,
            scope=scope,
            metric=metric,
            L=length,
            points=points,
        )
        for (scope, metric, length), points in curves.items()
    ]
