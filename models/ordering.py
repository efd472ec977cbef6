"""The k largest of a few hundred scores, in compiled loops of our own.

Room: models, compiled, called by `models.query`. NumPy's partition and sorts compile too, but take seconds to do so
and are no faster at these sizes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.jit import compiled
from models.sessions import Floats

Longs = npt.NDArray[np.int64]


@compiled
def kth_largest(values: Floats, k: int) -> float:
    """The k-th largest value (k from 1); `values` is left in another order.

    References
    ----------
    Hoare, 1961, "Algorithm 65: Find".
    """
    low, high, wanted = 0, len(values) - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return float(values[wanted])


@compiled
def sort_down(places: Longs, scores: Floats) -> None:
    """Sort places by their scores, largest first, equal ones by place (Shell's sort)."""
    n = len(places)
    for gap in (132, 57, 23, 10, 4, 1):
        for i in range(gap, n):
            moved = places[i]
            score = scores[moved]
            j = i
            while j >= gap:
                other = places[j - gap]
                if scores[other] > score or (scores[other] == score and other < moved):
                    break
                places[j] = other
                j -= gap
            places[j] = moved


@compiled
def best(scores: Floats, k: int) -> Longs:
    """Places of the k largest scores, largest first, equal ones by place."""
    n = len(scores)
    chosen = np.empty(min(k, n), dtype=np.int64)
    if n <= k:
        for c in range(n):
            chosen[c] = c
    else:
        least = kth_largest(scores.copy(), k)
        count = 0
        for c in range(n):
            if scores[c] > least:
                chosen[count] = c
                count += 1
        for c in range(n):
            if scores[c] == least and count < k:
                chosen[count] = c
                count += 1
    sort_down(chosen, scores)
    return chosen
