"""The floor of serving: a bare ASGI answer after one Redis GET, one FAISS search and one ranker run. Room: floors.

    python -m load_tests.floors.serving STORE_URL PARTITIONS CUSTOMERS MODEL_DIR

Prints the port it listens on. The same server (uvicorn, uvloop, httptools) and the same artefact as the API; the answer
is encoded beforehand, the customer value is not decoded, no candidate is looked at. ``GET /report`` tells what each
part took. Called by `load_tests.benchmarks.serving`, which interleaves its requests with the API's.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import redis.asyncio
import uvicorn

from events.schema import partition_of
from feature_store import keys
from load_tests.histogram import Latencies
from models import artefact, embedding
from models.recommender import Candidates, Recommender

Send = Callable[[dict[str, Any]], Awaitable[None]]

PARTS: Final = ("get", "search", "rank")
ANSWER: Final = msgspec.json.encode(
    {
        "recommendation_id": "019a0000-0000-7000-8000-000000000000",
        "items": [
            {"item_id": f"i{n:06d}", "rank": n, "score": 0.5, "source": "session_knn", "reasons": ["like_viewed"]}
            for n in range(20)
        ],
        "degraded": None,
    }
)


class Floor:
    """The application."""

    def __init__(self, store_url: str, partitions: int, customers: int, model: Recommender) -> None:
        self._client: Any = redis.asyncio.from_url(store_url, protocol=2)
        self._connections: list[Any] = []
        self._partitions, self._customers, self._model = partitions, customers, model
        self._random = random.Random(1)
        self._wall = {part: Latencies() for part in PARTS}
        self._cpu_ns = dict.fromkeys(PARTS, 0)
        self._count = 0
        self._vectors = _queries(model)
        self._slates = _slates(model)

    async def __call__(self, scope: dict[str, Any], _receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/report":
            await _answer(send, msgspec.json.encode(self._report()))
            return
        await self._timed_get()
        self._timed("search", lambda: embedding.search(self._model.index.vector_index, self._vector(), self._found))
        self._timed("rank", lambda: self._model.rank(self._slates[self._count % len(self._slates)]))
        self._count += 1
        await _answer(send, ANSWER)

    @property
    def _found(self) -> int:
        return int(self._model.params.found)

    def _vector(self) -> Any:
        return self._vectors[self._count % len(self._vectors)]

    async def _timed_get(self) -> None:
        customer_id = f"c{self._random.randrange(self._customers):07d}"
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        await self._get(keys.customer(partition_of(customer_id, self._partitions), customer_id))
        self._note("get", wall, cpu)

    async def _get(self, key: str) -> bytes | None:
        """One GET on a connection that is kept, without the client's pool and retries."""
        pool = self._connections
        connection = pool.pop() if pool else self._client.connection_pool.make_connection()
        await connection.connect()
        await connection.send_packed_command(connection.pack_command("GET", key), check_health=False)
        value: bytes | None = await connection.read_response()
        pool.append(connection)
        return value

    def _timed(self, part: str, work: Callable[[], Any]) -> None:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        work()
        self._note(part, wall, cpu)

    def _note(self, part: str, wall: int, cpu: int) -> None:
        self._cpu_ns[part] += time.thread_time_ns() - cpu
        self._wall[part].record_ns(time.perf_counter_ns() - wall)

    def _report(self) -> dict[str, Any]:
        parts = {
            part: {
                "cpu_ms": self._cpu_ns[part] / max(self._count, 1) / 1e6,
                "p50_ms": self._wall[part].ms(50),
                "p99_ms": self._wall[part].ms(99),
            }
            for part in PARTS
        }
        return {"answers": self._count, "parts": parts, "candidates": [len(s) for s in self._slates[:10]]}


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _queries(model: Recommender) -> list[Any]:
    """Return session vectors: those of single items, spread over the table."""
    rows = np.linspace(0, len(model.item_ids) - 1, 512).astype(np.int64)
    return [np.ascontiguousarray(model.index.vectors[row], dtype=np.float32) for row in rows]


def _slates(model: Recommender) -> list[Candidates]:
    """Return candidate matrices as the ranker gets them, full ones (200 rows) where sessions give as many."""
    rng = random.Random(2)
    found = [model.candidates(rng.sample(model.item_ids, 5), 200) for _ in range(64)]
    return sorted(found, key=len)[-16:]


async def _serve(store_url: str, partitions: int, customers: int, model_dir: Path) -> None:
    app = Floor(store_url, partitions, customers, artefact.load(model_dir))
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, server_header=False, lifespan="off", log_level="warning"
    )
    gc.collect()
    gc.freeze()
    await uvicorn.Server(config).serve(sockets=[listening])


def main(store_url: str, partitions: str, customers: str, model_dir: str) -> None:
    """Serve until SIGTERM."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(store_url, int(partitions), int(customers), Path(model_dir)))


if __name__ == "__main__":
    main(*sys.argv[1:5])
