"""The recipe's numbers: one set for every shop, selected on the last sessions of the training data.

Room: models, pure. Written into each artefact's manifest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

SOURCES = ("session_knn", "co_occurrence", "embedding", "session_memory")
HISTORY = 50  # clicks of a session that a query looks at


@dataclass(frozen=True)
class Params:
    """Parameters of retrieval; what each one does is said where it is used (`models.query`)."""

    query_items: int = 10  # newest different items of the session that look for neighbours
    postings: int = 400  # newest sessions looked at per item
    neighbours: int = 100  # nearest sessions that vote
    position_decay: float = 0.7  # weight of an item per item clicked after it
    distance_decay: float = 0.7  # weight of a neighbour's click per place from the match
    backward: float = 0.5  # weight of a neighbour's clicks before the match
    recency: float = 2.0  # session weight exp(-recency * age), age in shares of all sessions
    length_power: float = 0.0  # a neighbour's vote is divided by length ** this
    co_items: int = 64  # co-occurrence entries kept per item
    dimension: int = 64  # of the item vectors
    found: int = 80  # items asked of the vector index
    seed: int = 0

    def vector(self) -> npt.NDArray[np.float64]:
        """What the query kernel reads, in its order."""
        values = (
            self.query_items,
            self.neighbours,
            self.position_decay,
            self.distance_decay,
            self.backward,
            self.length_power,
        )
        return np.array(values, dtype=np.float64)

    def as_dict(self) -> dict[str, float]:
        """For the manifest."""
        return asdict(self)
