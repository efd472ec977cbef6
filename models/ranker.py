"""The ranker: a small network in ONNX that scores a candidate matrix, and how such a file is made.

Room: models. Serving calls `OnnxRanker.score` once per slate: one thread, no spinning, fixed row counts so that
ONNX Runtime plans its memory once per bucket. `write_network` is used by training alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from events.errors import ModelError
from models.sessions import Floats

BUCKETS = (32, 64, 128, 256, 512)
Layers = list[tuple[Floats, Floats]]  # weights (in, out) and bias (out,) of each layer


class OnnxRanker:
    """Scores of a feature matrix by an ONNX file with one input ``(rows, features)`` and one output ``(rows,)``.

    Raises
    ------
    ModelError
        The file is no ONNX model, or takes another number of features.
    """

    def __init__(self, path: Path, n_features: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as err:  # onnxruntime raises bare classes of its own
            raise ModelError(f"{path} is not a usable ONNX ranker: {err}") from err
        (taken,) = self._session.get_inputs()
        if taken.shape[-1] != n_features:
            raise ModelError(f"{path} takes {taken.shape[-1]} features, this version makes {n_features}")
        self._input = taken.name
        self._n_features = n_features

    def score(self, features: Floats) -> Floats:
        """Score each row.

        Parameters
        ----------
        features
            Shape ``(n, features)``, float32; any n, padded to the next bucket (32 .. 512, then multiples of 512).

        Returns
        -------
            Shape ``(n,)``, float32, higher is better.
        """
        n = len(features)
        if n == 0:
            return np.zeros(0, dtype=np.float32)
        size = next((bucket for bucket in BUCKETS if n <= bucket), -(-n // BUCKETS[-1]) * BUCKETS[-1])
        padded = features
        if size != n:
            padded = np.zeros((size, self._n_features), dtype=np.float32)
            padded[:n] = features
        scores: Floats = self._session.run(None, {self._input: padded})[0]
        return scores[:n]

    def warm(self) -> None:
        """Run every bucket once, so that no request pays for a first shape."""
        for bucket in BUCKETS:
            self.score(np.zeros((bucket, self._n_features), dtype=np.float32))


def write_network(path: Path, layers: Layers, mean: Floats, scale: Floats) -> None:
    """Write a network (standardise, clip to ±6, dense layers with ReLU between) as ONNX opset 17."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(name: str, value: npt.NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name

    nodes.append(helper.make_node("Sub", ["features", constant("mean", mean)], ["centred"]))
    nodes.append(helper.make_node("Mul", ["centred", constant("scale", 1.0 / scale)], ["scaled"]))
    bounds = [constant("low", np.array(-6.0)), constant("high", np.array(6.0))]
    nodes.append(helper.make_node("Clip", ["scaled", *bounds], ["hidden0"]))
    for number, (weights, bias) in enumerate(layers):
        given = f"hidden{number}"
        names = [given, constant(f"w{number}", weights), constant(f"b{number}", bias)]
        nodes.append(helper.make_node("Gemm", names, [f"dense{number}"]))
        if number < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [f"dense{number}"], [f"hidden{number + 1}"]))
    constants.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", [f"dense{len(layers) - 1}", "flat"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(mean)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
