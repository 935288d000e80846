"""Ways to cluster neuron vectors in NumPy, one file each, for studies; what runs in models is reuse/families."""

from reuse_compiler.studies.clustering.base import Clustering
from reuse_compiler.studies.clustering.hypercube import HyperCube
from reuse_compiler.studies.clustering.kmeans import KMeans
from reuse_compiler.studies.clustering.lsh import LocalitySensitiveHashing
from reuse_compiler.studies.clustering.vectors import VectorSets

__all__ = ["Clustering", "HyperCube", "KMeans", "LocalitySensitiveHashing", "VectorSets"]
