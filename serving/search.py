"""A small inverted index over titles, brands and categories. Room: serving, pure, in memory.

It finds what a query names; who gets which first is the recommender's to say (`serving.recommend`). Absent: stemming,
typos, languages: a shop with a search engine calls `rank` with that engine's items instead.
"""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from typing import Final

import numpy as np
import numpy.typing as npt

_WORD: Final = re.compile(r"\w+")
_MAX_TOKENS: Final = 64


def tokens(text: str) -> list[str]:
    """Return the distinct words of a text, without case and accents, in order.

    >>> tokens("Café-crème, CAFÉ")
    ['cafe', 'creme']
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return list(dict.fromkeys(_WORD.findall(text.casefold())))[:_MAX_TOKENS]


class SearchIndex:
    """Word -> rows. Rows are those of `serving.catalog`."""

    def __init__(self) -> None:
        self._postings: dict[str, array[int]] = {}
        self._texts: dict[int, str] = {}

    def put(self, row: int, text: str) -> None:
        """Index a row's text, in place of what it had."""
        before = self._texts.get(row)
        if before == text:
            return
        self._texts[row] = text
        old, new = set(tokens(before)) if before else set(), tokens(text)
        for word in old.difference(new):
            self._postings[word].remove(row)
        for word in new:
            if word not in old:
                self._postings.setdefault(word, array("i")).append(row)

    def find(self, query: str, k: int = 400) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return up to `k` rows that hold words of the query, and their scores, best first.

        The score is the share of the query's rarity (sum of idf) that a row covers, so a row with all words has 1.
        """
        documents = len(self._texts)
        found: list[tuple[npt.NDArray[np.int32], float]] = []
        total = 0.0
        for word in tokens(query)[:16]:
            postings = self._postings.get(word)
            n = len(postings) if postings else 0
            idf = math.log1p(documents / (n + 0.5))
            total += idf
            if postings:
                found.append((np.frombuffer(postings, dtype=np.int32).copy(), idf))
        if not found:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        rows = np.concatenate([r for r, _ in found])
        weights = np.concatenate([np.full(len(r), idf, dtype=np.float32) for r, idf in found])
        distinct, place = np.unique(rows, return_inverse=True)
        scores = (np.bincount(place, weights=weights) / total).astype(np.float32)
        if len(distinct) > k:
            best = np.argpartition(-scores, k)[:k]
            distinct, scores = distinct[best], scores[best]
        order = np.argsort(-scores, kind="stable")
        return distinct[order], scores[order]
