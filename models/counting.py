"""Loops that build the index: postings, directed co-occurrence, item facts.

Room: models, compiled. Called by `models.index` while training; a request never comes here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.jit import compiled
from models.ordering import best
from models.sessions import Floats, Rows

Longs = npt.NDArray[np.int64]
WINDOW = 20  # clicks between two items that still count as seen together in order
COLUMNS = 4  # of a co-occurrence entry: forward, next, backward, cosine


@compiled
def postings(indptr: Longs, items: Rows, n_items: int, limit: int) -> tuple[Longs, Rows, Rows]:
    """Sessions of each item, newest first, at most `limit`, with the item's last place in the session."""
    counts = np.zeros(n_items + 1, dtype=np.int64)
    last = np.full(n_items, -1, dtype=np.int32)
    n = len(indptr) - 1
    for s in range(n - 1, -1, -1):
        for p in range(indptr[s], indptr[s + 1]):
            item = items[p]
            if last[item] != s:
                last[item] = s
                if counts[item + 1] < limit:
                    counts[item + 1] += 1
    starts = counts.copy()
    for item in range(n_items):
        starts[item + 1] += starts[item]
    sessions = np.empty(starts[-1], dtype=np.int32)
    places = np.empty(starts[-1], dtype=np.int32)
    filled = starts[:-1].copy()
    last[:] = -1
    for s in range(n - 1, -1, -1):
        for p in range(indptr[s + 1] - 1, indptr[s] - 1, -1):
            item = items[p]
            if last[item] != s:
                last[item] = s
                if filled[item] < starts[item + 1]:
                    sessions[filled[item]] = s
                    places[filled[item]] = p - indptr[s]
                    filled[item] += 1
    return starts, sessions, places


@compiled
def _count_item(
    item: int, indptr: Longs, items: Rows, weight: Floats, own: Rows, slot: Rows, touched: Rows, sums: Floats
) -> int:
    """Add up what is seen with one item in its own sessions; returns how many other items."""
    count = 0
    for s in own:
        low, high = indptr[s], indptr[s + 1]
        for a in range(low, high):
            if items[a] != item:
                continue
            for b in range(max(low, a - WINDOW), min(high, a + WINDOW + 1)):
                other = items[b]
                if other == item:
                    continue
                if slot[other] < 0:
                    slot[other] = count
                    touched[count] = other
                    for column in range(COLUMNS):
                        sums[count, column] = 0.0
                    count += 1
                k = slot[other]
                if b > a:
                    sums[k, 0] += weight[s] / np.float32(b - a)
                    sums[k, 1] += weight[s] if b == a + 1 else np.float32(0.0)
                else:
                    sums[k, 2] += weight[s] / np.float32(a - b)
    return count


@compiled
def _share_sessions(indptr: Longs, items: Rows, own: Rows, slot: Rows, seen: Longs, stamp: int, sums: Floats) -> None:
    """Count, once a session, the sessions shared with each other item."""
    for s in own:
        for b in range(indptr[s], indptr[s + 1]):
            other = items[b]
            if slot[other] >= 0 and seen[other] != stamp + s:
                seen[other] = stamp + s
                sums[slot[other], 3] += np.float32(1.0)


@compiled
def together(
    indptr: Longs, items: Rows, weight: Floats, starts: Longs, sessions: Rows, popularity: Longs, keep: int
) -> tuple[Longs, Rows, Floats]:
    """Items seen with each item: weighted counts after it, right after it and before it, and the set cosine.

    `starts, sessions` are unlimited postings; at most `keep` entries an item stay, those of the largest
    sum of shares. Counts are divided by the item's own sum of session weights, so they read as shares.
    """
    n_items = len(popularity)
    total = np.zeros(n_items, dtype=np.int64)
    slot = np.full(n_items, -1, dtype=np.int32)
    seen = np.full(n_items, -1, dtype=np.int64)
    touched = np.empty(n_items, dtype=np.int32)
    sums = np.zeros((n_items, COLUMNS), dtype=np.float32)
    out_items = np.empty((n_items, keep), dtype=np.int32)
    out_values = np.empty((n_items, keep, COLUMNS), dtype=np.float32)
    for item in range(n_items):
        own = sessions[starts[item] : starts[item + 1]]
        count = _count_item(item, indptr, items, weight, own, slot, touched, sums)
        _share_sessions(indptr, items, own, slot, seen, item * len(indptr), sums)
        mass = np.float32(1e-9)
        for s in own:
            mass += weight[s]
        strength = np.empty(count, dtype=np.float32)
        for k in range(count):
            for column in range(3):
                sums[k, column] /= mass
            sums[k, 3] /= np.float32(np.sqrt(np.float64(popularity[item]) * np.float64(popularity[touched[k]])))
            strength[k] = sums[k, 0] + 0.5 * sums[k, 1] + 0.3 * sums[k, 2] + sums[k, 3]
        order = best(strength, keep)
        total[item] = len(order)
        for k in range(len(order)):
            out_items[item, k] = touched[order[k]]
            for column in range(COLUMNS):
                out_values[item, k, column] = sums[order[k], column]
        for k in range(count):
            slot[touched[k]] = -1
    edges = np.zeros(n_items + 1, dtype=np.int64)
    for item in range(n_items):
        edges[item + 1] = edges[item] + total[item]
    flat_items = np.empty(edges[-1], dtype=np.int32)
    flat_values = np.empty((edges[-1], COLUMNS), dtype=np.float32)
    for item in range(n_items):
        for k in range(total[item]):
            flat_items[edges[item] + k] = out_items[item, k]
            for column in range(COLUMNS):
                flat_values[edges[item] + k, column] = out_values[item, k, column]
    return edges, flat_items, flat_values


@compiled
def item_counts(indptr: Longs, items: Rows, n_items: int, recent_from: int) -> tuple[Longs, Longs, Longs, Longs]:
    """Sessions of each item: all, those from `recent_from` on, those in which it came back, and its last one."""
    everywhere = np.zeros(n_items, dtype=np.int64)
    recent = np.zeros(n_items, dtype=np.int64)
    returned = np.zeros(n_items, dtype=np.int64)
    newest = np.full(n_items, -1, dtype=np.int64)
    last = np.full(n_items, -1, dtype=np.int64)
    came_back = np.full(n_items, -1, dtype=np.int64)
    for s in range(len(indptr) - 1):
        for p in range(indptr[s], indptr[s + 1]):
            item = items[p]
            if last[item] != s:
                last[item] = s
                newest[item] = s
                everywhere[item] += 1
                if s >= recent_from:
                    recent[item] += 1
            elif came_back[item] != s:
                came_back[item] = s
                returned[item] += 1
    return everywhere, recent, returned, newest
