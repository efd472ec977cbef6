"""The query: from a session's newest items to 200 candidates with features, in one compiled pass.

Room: models, compiled, called once per request by `models.recommender`. It allocates little, takes all state as
arguments and writes only to the caller's scratch. Rows at or above the table are items of the session that the
training data did not have: session memory knows them, the other retrievers do not.

Session neighbours follow VMIS-kNN (Kersbergen et al., SIGMOD 2022: newest sessions per item, position weight, IDF)
and VSTAN (Ludewig et al., UMUAI 2021; Garg et al., SIGIR 2019: recency of the neighbour, distance to the matched item).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.features import N_FEATURES
from models.jit import compiled, compiled_sum
from models.ordering import best, kth_largest
from models.sessions import Floats, Rows

Longs = npt.NDArray[np.int64]
CAPACITY = 6_144  # different candidates that one query can hold
WIDTH = 16  # accumulators per candidate
# the accumulators, by retriever
KNN, KNN_LAST, NEIGHBOURS = 0, 1, 2
FORWARD, NEXT, BACKWARD, COSINE, FORWARD_2, NEXT_2, FORWARD_SUM, COSINE_BEST = 3, 4, 5, 6, 7, 8, 9, 10
VECTOR = 11
AGE, COUNT, FOLLOWED, LED = 12, 13, 14, 15


@compiled_sum
def _dot(left: Floats, right: Floats) -> np.float32:
    """Inner product of two rows."""
    total = np.float32(0.0)
    for d in range(len(left)):
        total += left[d] * right[d]
    return total


@compiled
def session_vector(recent: Rows, vectors: Floats, decay: float) -> Floats:
    """Unit sum of the session's item vectors, newest heaviest, shape ``(1, dimension)``."""
    total = np.zeros((1, vectors.shape[1]), dtype=np.float32)
    weight = np.float32(1.0)
    for p in range(len(recent) - 1, max(-1, len(recent) - 11), -1):
        if recent[p] < len(vectors):
            for d in range(vectors.shape[1]):
                total[0, d] += weight * vectors[recent[p], d]
        weight *= np.float32(decay)
    norm = np.float32(0.0)
    for d in range(vectors.shape[1]):
        norm += total[0, d] * total[0, d]
    if norm > 0:
        scale = np.float32(1.0 / np.sqrt(norm))
        for d in range(vectors.shape[1]):
            total[0, d] *= scale
    return total


@compiled
def _slot(item: int, slots: Rows, held: Rows, sums: Floats, count: int) -> int:
    """The candidate's place in the accumulators, made when new; -1 when all places are taken."""
    place: int = slots[item]
    if place < 0 and count < CAPACITY:
        place = count
        slots[item] = place
        held[place] = item
        for column in range(WIDTH):
            sums[place, column] = 0.0
    return place


@compiled
def _distinct(recent: Rows) -> tuple[Rows, Rows]:
    """Places in the session of its different items' last clicks, newest first, and each one's first place."""
    n = len(recent)
    last = np.empty(n, dtype=np.int32)
    first = np.empty(n, dtype=np.int32)
    count = 0
    for p in range(n - 1, -1, -1):
        known = False
        for q in range(count):
            if recent[last[q]] == recent[p]:
                first[q] = p
                known = True
                break
        if not known:
            last[count] = p
            first[count] = p
            count += 1
    return last[:count], first[:count]


@compiled
def _remember(recent: Rows, distinct: Rows, slots: Rows, held: Rows, sums: Floats) -> int:
    """Session memory: the session's own items by recency, count and what followed what."""
    n = len(recent)
    count = 0
    for q in range(len(distinct)):
        place = _slot(recent[distinct[q]], slots, held, sums, count)
        count = max(count, place + 1)
        sums[place, AGE] = n - distinct[q]
    for p in range(n):
        sums[slots[recent[p]], COUNT] += 1.0
        if p + 1 < n and recent[p] == recent[n - 1]:
            sums[slots[recent[p + 1]], FOLLOWED] += 1.0
        if p > 0 and recent[p] == recent[n - 1]:
            sums[slots[recent[p - 1]], LED] += 1.0
    return count


@compiled
def _neighbours(
    recent: Rows, distinct: Rows, starts: Longs, sessions: Rows, places: Rows, weight: Floats, idf: Floats,
    params: npt.NDArray[np.float64], similar: Floats, match: Rows, touched: Rows,
) -> int:  # fmt: skip
    """Similarity of each session that shares an item: `touched[:n]`, their `similar` and matched `place * 2 + last`."""
    count = 0
    n = len(recent)
    for q in range(min(len(distinct), int(params[0]))):
        item = recent[distinct[q]]
        if item >= len(idf):
            continue
        vote = np.float32(params[2] ** (n - 1 - distinct[q])) * idf[item]
        for e in range(starts[item], starts[item + 1]):
            s = sessions[e]
            if similar[s] == 0.0:
                touched[count] = s
                count += 1
                match[s] = places[e] * 2 + (1 if q == 0 else 0)
            similar[s] += vote * weight[s]
    return count


@compiled
def _vote(
    count: int, edges: Longs, items: Rows, params: npt.NDArray[np.float64], similar: Floats, match: Rows,
    touched: Rows, slots: Rows, held: Rows, sums: Floats, places: int,
) -> int:  # fmt: skip
    """The nearest sessions vote for their items, by distance to the matched one; clears `similar`."""
    keep = int(params[1])
    least = np.float32(0.0)
    if count > keep:
        values = np.empty(count, dtype=np.float32)
        for t in range(count):
            values[t] = similar[touched[t]]
        least = np.float32(kth_largest(values, keep))
    decay = np.empty(64, dtype=np.float32)
    for d in range(64):
        decay[d] = params[3] ** d
    voted = 0
    for t in range(count):
        s = touched[t]
        strength = similar[s]
        similar[s] = 0.0
        if strength < least or voted >= keep:
            continue
        voted += 1
        low, high = edges[s], edges[s + 1]
        if params[5] > 0:
            strength /= np.float32((high - low) ** params[5])
        centre = low + match[s] // 2
        for p in range(max(low, centre - 60), min(high, centre + 60)):
            item = items[p]
            if p == centre:
                continue
            place = _slot(item, slots, held, sums, places)
            if place < 0:
                continue
            places = max(places, place + 1)
            value = strength * decay[abs(p - centre) - 1]
            if p < centre:
                value *= np.float32(params[4])
            sums[place, KNN] += value
            sums[place, NEIGHBOURS] += 1.0
            if match[s] % 2 == 1:
                sums[place, KNN_LAST] += value
    return places


@compiled
def _follow(
    recent: Rows, distinct: Rows, co_starts: Longs, co_items: Rows, co_values: Floats,
    params: npt.NDArray[np.float64], slots: Rows, held: Rows, sums: Floats, places: int,
) -> int:  # fmt: skip
    """What is seen with the session's items, by directed co-occurrence."""
    n = len(recent)
    for q in range(min(len(distinct), int(params[0]))):
        item = recent[distinct[q]]
        if item >= len(co_starts) - 1:
            continue
        weight = np.float32(params[2] ** (n - 1 - distinct[q]))
        for e in range(co_starts[item], co_starts[item + 1]):
            place = _slot(co_items[e], slots, held, sums, places)
            if place < 0:
                continue
            places = max(places, place + 1)
            values = co_values[e]
            sums[place, FORWARD_SUM] += weight * (values[0] + np.float32(params[4]) * values[2])
            sums[place, COSINE_BEST] = max(sums[place, COSINE_BEST], values[3])
            if q == 0:
                sums[place, FORWARD] = values[0]
                sums[place, NEXT] = values[1]
                sums[place, BACKWARD] = values[2]
                sums[place, COSINE] = values[3]
            elif q == 1:
                sums[place, FORWARD_2] = values[0]
                sums[place, NEXT_2] = values[1]
    return places


@compiled
def _fuse(places: int, sums: Floats) -> Floats:
    """A first order without learning: shares of the best vote of each retriever, and session memory."""
    knn, forward, cosine = np.float32(1e-9), np.float32(1e-9), np.float32(1e-9)
    for c in range(places):
        knn = max(knn, sums[c, KNN])
        forward = max(forward, sums[c, FORWARD_SUM])
        cosine = max(cosine, sums[c, COSINE_BEST])
    fused = np.empty(places, dtype=np.float32)
    for c in range(places):
        score = sums[c, KNN] / knn + 0.6 * sums[c, FORWARD_SUM] / forward
        score += 0.3 * sums[c, COSINE_BEST] / cosine + 0.3 * sums[c, VECTOR]
        if sums[c, AGE] == 1.0:
            score *= 0.2
        elif sums[c, AGE] > 1.0:
            score += 0.6 / np.sqrt(sums[c, AGE]) + 0.1 * sums[c, COUNT]
        fused[c] = score
    return fused


@compiled
def _describe(
    recent: Rows, distinct: Rows, first: Rows, chosen: Longs, fused: Floats, held: Rows, sums: Floats, places: int,
    facts: Floats, vectors: Floats, query: Floats,
) -> Floats:  # fmt: skip
    """The feature matrix of the chosen candidates, columns as in `models.features`."""
    n = len(recent)
    best_knn, best_last, best_forward = np.float32(1e-9), np.float32(1e-9), np.float32(1e-9)
    for c in range(places):
        best_knn = max(best_knn, sums[c, KNN])
        best_last = max(best_last, sums[c, KNN_LAST])
        best_forward = max(best_forward, sums[c, FORWARD_SUM])
    last = recent[n - 1]
    x = np.zeros((len(chosen), N_FEATURES), dtype=np.float32)
    for r in range(len(chosen)):
        a = sums[chosen[r]]
        item = held[chosen[r]]
        x[r, 0] = a[KNN] / best_knn
        x[r, 1] = np.log1p(a[KNN])
        x[r, 2] = a[KNN_LAST] / best_last
        x[r, 3] = np.log1p(a[NEIGHBOURS])
        x[r, 4] = a[FORWARD]
        x[r, 5] = a[NEXT]
        x[r, 6] = a[BACKWARD]
        x[r, 7] = a[COSINE]
        x[r, 8] = a[FORWARD_2]
        x[r, 9] = a[NEXT_2]
        x[r, 10] = a[FORWARD_SUM] / best_forward
        x[r, 11] = np.log1p(a[FORWARD_SUM])
        x[r, 12] = a[COSINE_BEST]
        if item < len(vectors):
            x[r, 13] = _dot(vectors[item], query[0])
            if last < len(vectors):
                x[r, 14] = _dot(vectors[item], vectors[last])
        if a[AGE] > 0:
            x[r, 15] = 1.0
            x[r, 16] = 1.0 / a[AGE]
            x[r, 17] = a[COUNT]
            x[r, 18] = a[FOLLOWED]
            x[r, 19] = a[LED]
            for q in range(len(distinct)):
                if recent[distinct[q]] == item:
                    x[r, 20] = 1.0 / (n - first[q])
        for f in range(facts.shape[1]):
            x[r, 21 + f] = facts[min(item, len(facts) - 1), f]
        x[r, 26] = np.log1p(np.float32(n))
        x[r, 27] = np.float32(len(distinct)) / np.float32(n)
        x[r, 28] = facts[min(last, len(facts) - 1), 0]
        x[r, 29] = np.log1p(best_knn)
        x[r, 30] = np.log1p(best_forward)
        x[r, 31] = fused[chosen[r]]
        x[r, 32] = 1.0 / (1.0 + r)
    return x


@compiled
def _sources(chosen: Longs, sums: Floats, features: Floats) -> npt.NDArray[np.uint8]:
    """Which retriever spoke loudest for each candidate: an index into `params.SOURCES`."""
    sources = np.empty(len(chosen), dtype=np.uint8)
    for r in range(len(chosen)):
        a = sums[chosen[r]]
        if a[AGE] > 0:
            sources[r] = 3
        elif a[KNN] == 0 and a[FORWARD_SUM] == 0:
            sources[r] = 2
        else:
            sources[r] = 0 if features[r, 0] >= features[r, 10] else 1
    return sources


@compiled
def retrieve(
    recent: Rows, query: Floats, found: Rows, similarity: Floats, k: int,
    starts: Longs, sessions: Rows, session_places: Rows, edges: Longs, items: Rows, weight: Floats, idf: Floats,
    co_starts: Longs, co_items: Rows, co_values: Floats, facts: Floats, vectors: Floats,
    params: npt.NDArray[np.float64],
    slots: Rows, held: Rows, sums: Floats, similar: Floats, match: Rows, touched: Rows,
) -> tuple[Rows, Floats, npt.NDArray[np.uint8], Floats]:  # fmt: skip
    """Candidates of one session: rows ``(n,)``, fused scores ``(n,)``, sources ``(n,)``, features ``(n, d)``."""
    distinct, first = _distinct(recent)
    places = _remember(recent, distinct, slots, held, sums)
    count = _neighbours(
        recent, distinct, starts, sessions, session_places, weight, idf, params, similar, match, touched
    )
    places = _vote(count, edges, items, params, similar, match, touched, slots, held, sums, places)
    places = _follow(recent, distinct, co_starts, co_items, co_values, params, slots, held, sums, places)
    for f in range(len(found)):
        if found[f] >= 0:
            place = _slot(found[f], slots, held, sums, places)
            if place >= 0:
                places = max(places, place + 1)
                sums[place, VECTOR] = similarity[f]
    fused = _fuse(places, sums)
    chosen = best(fused, k)
    features = _describe(recent, distinct, first, chosen, fused, held, sums, places, facts, vectors, query)
    sources = _sources(chosen, sums, features)
    rows = np.empty(len(chosen), dtype=np.int32)
    scores = np.empty(len(chosen), dtype=np.float32)
    for r in range(len(chosen)):
        rows[r] = held[chosen[r]]
        scores[r] = fused[chosen[r]]
    for c in range(places):
        slots[held[c]] = -1
    return rows, scores, sources, features
