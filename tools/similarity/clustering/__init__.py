"""Ways to cluster neuron vectors in NumPy, one file each, for the study; what runs in models is reuse/families."""

from tools.similarity.clustering.base import Clustering
from tools.similarity.clustering.hypercube import HyperCube
from tools.similarity.clustering.kmeans import KMeans
from tools.similarity.clustering.lsh import LocalitySensitiveHashing
from tools.similarity.clustering.vectors import VectorSets

__all__ = ["Clustering", "HyperCube", "KMeans", "LocalitySensitiveHashing", "VectorSets"]
