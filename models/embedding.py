"""Item vectors from sequences: PPMI of co-occurrence in a window, factored; and their FAISS index.

Room: models. `fit` trains; `build_index` and `read_index` are the only users of FAISS in the house.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from models.jit import compiled
from models.sessions import Floats, Rows, Sessions

SPAN = 5  # clicks between two items whose vectors should be close
FLAT_BELOW = 2_000  # items; below, an exact scan is as fast


@compiled
def _pairs(indptr: npt.NDArray[np.int64], items: Rows, span: int) -> tuple[Rows, Rows, Floats]:
    """Pairs of different items at most `span` clicks apart, weight 1 / distance."""
    count = 0
    for s in range(len(indptr) - 1):
        for a in range(indptr[s], indptr[s + 1]):
            count += min(indptr[s + 1], a + span + 1) - a - 1
    left = np.empty(count, dtype=np.int32)
    right = np.empty(count, dtype=np.int32)
    weight = np.empty(count, dtype=np.float32)
    n = 0
    for s in range(len(indptr) - 1):
        for a in range(indptr[s], indptr[s + 1]):
            for b in range(a + 1, min(indptr[s + 1], a + span + 1)):
                if items[a] != items[b]:
                    left[n], right[n], weight[n] = items[a], items[b], 1.0 / (b - a)
                    n += 1
    return left[:n], right[:n], weight[:n]


def fit(sessions: Sessions, dimension: int, seed: int) -> Floats:
    """Unit item vectors, shape ``(items, dimension)``; an item never seen with another has zeros.

    References
    ----------
    Levy and Goldberg, NIPS 2014, "Neural Word Embedding as Implicit Matrix Factorization".
    """
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd

    n = len(sessions.item_ids)
    left, right, weight = _pairs(sessions.indptr, sessions.items, SPAN)
    counts = coo_matrix((weight, (left, right)), shape=(n, n)).tocsr()
    counts = (counts + counts.T).tocoo()
    vectors = np.zeros((n, dimension), dtype=np.float32)
    rank = min(dimension, n - 1)
    if counts.nnz == 0 or rank < 1:
        return vectors
    mass = np.asarray(counts.sum(axis=0)).ravel()
    context = mass**0.75
    context /= context.sum()
    values = np.log(np.maximum(counts.data / (mass[counts.row] * context[counts.col]), 1e-12))
    kept = values > 0
    ppmi = coo_matrix((values[kept].astype(np.float32), (counts.row[kept], counts.col[kept])), shape=(n, n)).tocsr()
    u, s, _ = randomized_svd(ppmi, rank, n_iter=4, random_state=seed)
    vectors[:, :rank] = u * np.sqrt(s)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)
    return unit


def build_index(vectors: Floats, seed: int) -> Any:
    """An inner-product index: exact for few items, else IVF with 8-bit codes (55 µs at 43 k items, recall@80 .925)."""
    faiss.omp_set_num_threads(1)
    n, dimension = int((np.abs(vectors).max(axis=1) > 0).sum()), vectors.shape[1]
    index: Any
    if n < FLAT_BELOW:
        index = faiss.IndexFlatIP(dimension)
        index.add(vectors)
        return index
    lists = int(2 ** np.round(np.log2(4 * np.sqrt(n))))
    lists = max(16, min(lists, n // 39))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimension), dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = seed + 1
    index.cp.niter = 8
    placed = np.flatnonzero(np.abs(vectors).max(axis=1) > 0)
    index.train(vectors[placed])
    index.add_with_ids(vectors[placed], placed)
    index.nprobe = max(8, lists // 100)
    return index


def write_index(index: Any, path: Path) -> None:
    """Write the index; its `nprobe` goes with it."""
    faiss.write_index(index, str(path))


def read_index(path: Path) -> Any:
    """Map the index into memory where its kind allows, so that workers share its pages."""
    faiss.omp_set_num_threads(1)
    # Not IO_FLAG_MMAP: that reads inverted lists through OnDiskInvertedLists, 13 times slower (317 against 23 µs).
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def search(index: Any, vector: Floats, k: int) -> tuple[Floats, Rows]:
    """The k nearest items of one vector: similarities ``(k,)`` and rows ``(k,)`` int32, -1 where fewer were found."""
    similar, rows = index.search(vector.reshape(1, -1), k)
    return similar[0], rows[0].astype(np.int32)
