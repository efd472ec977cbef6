"""A small network trained on lists: each list's clicked candidate should get the largest score.

Room: models, NumPy alone. Called by `models.learning`; the result goes to ONNX (`models.ranker.write_network`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.ranker import Layers
from models.sessions import Floats

Longs = npt.NDArray[np.int64]
FEWEST_STEPS = 1_000  # of the optimiser: few lists are gone through more often


@dataclass(frozen=True)
class Lists:
    """Candidate lists, one behind the other.

    Parameters
    ----------
    features
        ``(rows, features)`` float32.
    clicked
        ``(rows,)`` float32, 1.0 for the list's clicked candidate.
    stands_for
        ``(rows,)`` float32: how many candidates of the full list a row stands for, 1.0 but for sampled ones.
    edges
        ``(lists + 1,)`` int64: where each list begins.
    """

    features: Floats
    clicked: Floats
    stands_for: Floats
    edges: Longs

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def sizes(self) -> Longs:
        """Candidates of each list."""
        return np.diff(self.edges)

    def part(self, low: int, high: int) -> Lists:
        """The lists low .. high - 1."""
        edges = self.edges[low : high + 1]
        rows = slice(edges[0], edges[-1])
        return Lists(self.features[rows], self.clicked[rows], self.stands_for[rows], edges - edges[0])


def softmax(scores: Floats, edges: Longs) -> Floats:
    """Softmax within each list.

    >>> softmax(np.array([0.0, 0.0, 5.0], dtype=np.float32), np.array([0, 2, 3])).tolist()
    [0.5, 0.5, 1.0]
    """
    sizes = np.diff(edges)
    top = np.maximum.reduceat(scores, edges[:-1])
    powers = np.exp(scores - np.repeat(top, sizes))
    shares: Floats = powers / np.repeat(np.add.reduceat(powers, edges[:-1]), sizes)
    return shares


def standards(features: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of each column, for standardisation; a constant column gets spread 1."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = features.std(axis=0, dtype=np.float64).astype(np.float32)
    return mean, np.where(scale > 1e-6, scale, np.float32(1.0))


def forward(layers: Layers, inputs: Floats) -> list[Floats]:
    """Activations of every layer, the standardised input first, the scores ``(rows, 1)`` last."""
    values = [inputs]
    for number, (weights, bias) in enumerate(layers):
        value = values[-1] @ weights + bias
        values.append(np.maximum(value, 0) if number < len(layers) - 1 else value)
    return values


def backward(layers: Layers, values: list[Floats], gradient: Floats) -> list[Floats]:
    """Gradients of weights and biases, in the order w0, b0, w1, b1 …"""
    gradients: list[Floats] = []
    for number in range(len(layers) - 1, -1, -1):
        gradients += [gradient.sum(axis=0), values[number].T @ gradient]
        if number:
            gradient = (gradient @ layers[number][0].T) * (values[number] > 0)
    return gradients[::-1]


def train(
    lists: Lists,
    *,
    seed: int,
    hidden: tuple[int, ...] = (32, 16),
    epochs: int = 8,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[Layers, Floats, Floats]:
    """Fit the network to the clicks by the softmax over each list (Adam, cosine step size).

    A sampled row's score is raised by the log of what it stands for, so that the softmax is that of the full list;
    without it the lower candidates come out too high (diginetica: HitRate@20 .467 instead of .548).

    Returns
    -------
        Layers, and the mean and spread that standardise the input.

    References
    ----------
    Cao et al., ICML 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach".
    """
    random = np.random.default_rng(seed)
    mean, scale = standards(lists.features)
    raised = np.log(lists.stands_for)
    inputs = np.clip((lists.features - mean) / scale, -6, 6)
    widths = (inputs.shape[1], *hidden, 1)
    layers: Layers = [
        ((random.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, dtype=np.float32))
        for a, b in pairwise(widths)
    ]
    flat = [array for layer in layers for array in layer]
    first, second = ([np.zeros_like(array) for array in flat] for _ in range(2))
    batch = int(np.clip(len(lists) / 100, 16, 128))
    epochs = max(epochs, FEWEST_STEPS * batch // len(lists))
    steps = epochs * -(-len(lists) // batch)
    step = 0
    for _ in range(epochs):
        order = random.permutation(len(lists))
        for low in range(0, len(order), batch):
            rows, edges = _rows(lists.edges, order[low : low + batch])
            values = forward(layers, inputs[rows])
            error = softmax(values[-1][:, 0] + raised[rows], edges) - lists.clicked[rows]
            gradients = backward(layers, values, (error / np.float32(len(edges) - 1))[:, None])
            step += 1
            rate = 0.004 * (0.5 + 0.5 * np.cos(np.pi * step / steps)) + 1e-5
            _adam(flat, gradients, first, second, rate, step)
            progress(step / steps)
    return layers, mean, scale


def _rows(edges: Longs, chosen: Longs) -> tuple[Longs, Longs]:
    """Rows of the chosen lists, one behind the other, and their new edges."""
    sizes = edges[chosen + 1] - edges[chosen]
    new = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(sizes, out=new[1:])
    return np.arange(new[-1]) - np.repeat(new[:-1] - edges[chosen], sizes), new


def _adam(
    flat: list[Floats], gradients: list[Floats], first: list[Floats], second: list[Floats], rate: float, step: int
) -> None:
    for array, gradient, m, v in zip(flat, gradients, first, second, strict=True):
        m += np.float32(0.1) * (gradient - m)
        v += np.float32(0.001) * (gradient * gradient - v)
        array -= np.float32(rate / (1 - 0.9**step)) * m / (np.sqrt(v / np.float32(1 - 0.999**step)) + np.float32(1e-8))


def score(layers: Layers, mean: Floats, scale: Floats, features: Floats) -> Floats:
    """What the ONNX file computes: scores ``(rows,)``."""
    return forward(layers, np.clip((features - mean) / scale, -6, 6))[-1][:, 0]
