"""What a clustering method is to the study."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tools.similarity.clustering.vectors import Ids, VectorSets


class Clustering(ABC):
    """A method with one knob, its effort: the more of it, the more clusters. Deterministic by its own seed."""

    name: str
    effort: str
    """What the knob is called in tables and figures."""

    @abstractmethod
    def assign(self, sets: VectorSets, effort: float) -> Ids:
        """Returns ids [U, n], equal for vectors of a set that share a cluster.

        What it says of vectors that another stands for (weight 0) does not matter.
        """

    def refusal(self, effort: float, size: int) -> str | None:
        """Returns why sets of `size` vectors are not clustered with this effort, as a sentence; None if they are."""
        return None
