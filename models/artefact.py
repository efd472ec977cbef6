"""Artefacts: a model version as a directory of arrays, an index, a ranker and a manifest of hashes.

Room: models. `save` is called by training, `load` by serving, also while it serves: nothing global is touched, arrays
are mapped into memory (workers share the pages), and a file that is missing, cut or changed is refused by name.
An artefact holds item ids; customers and sessions are not in it, sessions are rows of numbers in time order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from events.errors import ModelError
from models import embedding
from models.features import FEATURES, N_FEATURES
from models.index import Index, frozen
from models.params import Params
from models.ranker import OnnxRanker
from models.recommender import Recommender

MANIFEST, ITEMS, VECTOR_INDEX, RANKER = "manifest.json", "items.msgpack", "vectors.faiss", "ranker.onnx"
FORMAT = 1
ARRAYS = (
    "starts", "postings", "places", "edges", "items", "weight", "idf",
    "co_starts", "co_items", "co_values", "facts", "vectors",
)  # fmt: skip


def save(directory: Path, item_ids: list[str], index: Index, params: Params, facts: Mapping[str, Any]) -> Path:
    """Write an artefact; a `ranker.onnx` that lies in the directory already becomes part of it.

    Parameters
    ----------
    facts
        What else the manifest says: name, version, created, seed, rows, span, metrics.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, array in index.arrays().items():
        np.save(directory / f"{name}.npy", array)
    (directory / ITEMS).write_bytes(msgspec.msgpack.encode(item_ids))
    embedding.write_index(index.vector_index, directory / VECTOR_INDEX)
    files = {
        path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    }
    manifest = {
        "format": FORMAT, **facts, "kind": "session", "items": len(item_ids), "sessions": len(index.weight),
        "parameters": params.as_dict(), "features": list(FEATURES), "files": files,
    }  # fmt: skip
    aside = directory / f".{MANIFEST}"
    aside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    aside.rename(directory / MANIFEST)
    return directory


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of an artefact, checked for its format.

    Raises
    ------
    ModelError
        There is none, or it is not JSON, or of another format.
    """
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as err:
        raise ModelError(f"model artefact {directory} has no readable {MANIFEST}: {err.strerror}") from err
    except msgspec.DecodeError as err:
        raise ModelError(f"model artefact file {path} is corrupt: {err}") from err
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise ModelError(f"model artefact {directory} has format {found!r}, expected {FORMAT}: retrain")
    if manifest.get("features") != list(FEATURES):
        raise ModelError(f"model artefact {directory} was made for other ranker features: retrain with `kairos train`")
    return manifest


def verify(directory: Path) -> dict[str, Any]:
    """Check every file against the manifest; returns the manifest.

    Raises
    ------
    ModelError
        A file is missing, cut or changed; the message names it.
    """
    manifest = read_manifest(directory)
    files = manifest.get("files")
    if not isinstance(files, dict) or not {f"{name}.npy" for name in ARRAYS} | {ITEMS, VECTOR_INDEX} <= set(files):
        raise ModelError(f"model artefact file {directory / MANIFEST} does not list all files of a model")
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            raise ModelError(f"model artefact file {path} is missing")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ModelError(f"model artefact file {path} has {size} bytes, its manifest says {expected['bytes']}")
        if _sha256(path) != expected["sha256"]:
            raise ModelError(f"model artefact file {path} is corrupt: its SHA-256 differs from the manifest's")
    return manifest


def load(directory: Path) -> Recommender:
    """Verify, map and warm an artefact; ready to serve when it returns.

    Raises
    ------
    ModelError
        A partial, corrupt or foreign artefact, naming file and reason.
    """
    manifest = verify(directory)
    try:
        arrays = {name: frozen(np.load(directory / f"{name}.npy", mmap_mode="r")) for name in ARRAYS}
        item_ids = msgspec.msgpack.decode((directory / ITEMS).read_bytes(), type=list[str])
        params = msgspec.convert(manifest["parameters"], Params)
        index = Index(**arrays, vector_index=embedding.read_index(directory / VECTOR_INDEX))
    except (OSError, ValueError, RuntimeError, KeyError, msgspec.MsgspecError) as err:
        raise ModelError(f"model artefact {directory} cannot be loaded: {err}") from err
    ranker = OnnxRanker(directory / RANKER, N_FEATURES) if RANKER in manifest["files"] else None
    recommender = Recommender(item_ids, index, params, ranker, manifest)
    recommender.warm()
    return recommender


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
