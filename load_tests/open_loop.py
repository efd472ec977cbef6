"""The load generator: requests on a schedule, latency from the planned time. Room: load_tests; a process of its own.

    python -m load_tests.open_loop SPEC.json

Reads a `Spec`, prints a JSON report. Called by the benchmarks. A request is sent when the schedule says, whether or not
earlier ones were answered, so a stall of the server is seen by every request that it delays (wrk2's argument). What the
generator itself is late by is a histogram of its own (`lag_ms`); a run whose lag is not small says nothing.

There is no event loop: one `select` with a microsecond timeout over keep-alive connections, requests encoded before
the run, answers parsed by httptools. An asyncio client would be as cheap (`http_client`: 55 µs of CPU a request, this
65 with its histograms, aiohttp's client 165), but event loops on epoll wake up by the millisecond, which alone is a lag
p99 of 1 ms.

Absent: what the requests say. A file has one JSON body a line, in the order of sending (`load_tests.asks` writes it).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import resource
import select
import socket
import sys
import time
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec
import numpy as np

from load_tests import priority
from load_tests.histogram import Latencies


class Target(msgspec.Struct):
    """One kind of request. `marks` name byte strings: answers that hold one are counted by its name."""

    name: str
    url: str  # http://host:port/path
    requests: str = ""  # file of JSON bodies, one a line; "" for GET
    rate: float = 0.0  # per second, of an open loop
    marks: dict[str, str] = {}


class Spec(msgspec.Struct, kw_only=True):
    """A run. With `closed` each connection sends its next request when it has its answer (saturation)."""

    targets: list[Target]
    seconds: float
    warmup_s: float = 2.0  # not counted
    arrivals: str = "poisson"  # or "fixed"
    closed: bool = False
    connections: int = 16  # opened before the run, per target; an open loop opens more as it needs them, to 256
    timeout_s: float = 10.0
    cpu: int = -1  # core to stay on
    seed: int = 0


class TargetReport(msgspec.Struct):
    planned: int
    answered: int
    errors: dict[str, int]  # by status, "closed", "timeout"
    marks: dict[str, int]
    first: int  # line of the requests file with which the counted part begins
    latency_ms: dict[str, float]
    histogram: str
    seconds_p99_ms: list[float]  # per second of the run


class Report(msgspec.Struct, kw_only=True):
    targets: dict[str, TargetReport]
    seconds: float
    lag_ms: dict[str, float]
    cpu_s: float  # of the generator, in the counted part
    niceness: int


class _Connection:
    """One keep-alive connection; also httptools' callbacks."""

    def __init__(self, target: _Load, address: tuple[str, int]) -> None:
        self.target = target
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connecting = self.socket.connect_ex(address) == errno.EINPROGRESS
        self.parser = httptools.HttpResponseParser(self)
        self.uses = 0
        self.request = self.body = b""
        self.planned_ns = 0
        self.done = self.begun = False

    def send(self, request: bytes, planned_ns: int) -> None:
        self.request, self.planned_ns, self.body = request, planned_ns, b""
        self.done = self.begun = False
        self.uses += 1
        if not self.connecting:
            self.write()

    def write(self) -> None:
        """Write the request; it is small and the socket's buffer empty, so that it never waits."""
        self.connecting = False
        with contextlib.suppress(OSError):  # the server let go of it while idle: reading finds that out
            self.socket.sendall(self.request)

    @property
    def stale(self) -> bool:
        """Whether the server closed an idle connection rather than this request's (RFC 9112, 9.3.1: try again)."""
        return self.uses > 1 and not self.begun

    def receive(self) -> bool:
        """Read what is there; return whether the answer is complete."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionResetError
        self.begun = True
        self.parser.feed_data(data)
        return self.done

    def on_body(self, chunk: bytes) -> None:
        self.body = self.body + chunk if self.body else chunk

    def on_message_complete(self) -> None:
        self.done = True


class _Load:
    """A target at work: its requests, connections and counts."""

    def __init__(self, target: Target, spec: Spec) -> None:
        parts = urlsplit(target.url)
        self.name, self.rate = target.name, target.rate
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.requests = _encode(target, parts.netloc, parts.path or "/")
        self.marks = {name: mark.encode() for name, mark in target.marks.items()}
        self.idle = [_Connection(self, self.address) for _ in range(spec.connections)]
        self.waiting: deque[tuple[bytes, int]] = deque()
        self.opened = spec.connections
        self.next = 0
        self.begin()

    def begin(self) -> None:
        """Begin to count (anew)."""
        self.first, self.planned, self.answered = self.next, 0, 0
        self.errors: Counter[str] = Counter()
        self.marked: Counter[str] = Counter()
        self.latencies = Latencies()
        self.seconds: defaultdict[int, list[int]] = defaultdict(list)

    def request(self) -> bytes:
        request = self.requests[self.next % len(self.requests)]
        self.next += 1
        self.planned += 1
        return request

    def count(self, connection: _Connection, now_ns: int, begin_ns: int) -> None:
        """Count a complete answer."""
        status = connection.parser.get_status_code()
        self.answered += 1
        if status != 200:
            self.errors[str(status)] += 1
        for name, mark in self.marks.items():
            self.marked[name] += mark in connection.body
        took = now_ns - connection.planned_ns
        self.latencies.record_ns(took)
        self.seconds[(connection.planned_ns - begin_ns) // 1_000_000_000].append(took)

    def report(self) -> TargetReport:
        return TargetReport(
            planned=self.planned,
            answered=self.answered,
            errors=dict(self.errors),
            marks={name: self.marked[name] for name in self.marks},
            first=self.first,
            latency_ms=self.latencies.summary(),
            histogram=self.latencies.encode(),
            seconds_p99_ms=[round(float(np.percentile(took, 99)) / 1e6, 3) for _, took in sorted(self.seconds.items())],
        )


def _encode(target: Target, host: str, path: str) -> list[bytes]:
    if not target.requests:
        return [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()]
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    bodies = Path(target.requests).read_bytes().splitlines()
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


class _Run:
    """The loop."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.loads = [_Load(target, spec) for target in spec.targets]
        self.busy: dict[int, _Connection] = {}  # by file descriptor
        self.connecting: set[int] = set()  # of these, those whose connection is not made yet
        self.lag = Latencies()
        self.begin_ns = 0

    def open_loop(self, seconds: float, seed: int) -> None:
        """Send by the schedule for so long, then wait for the answers."""
        offsets, owners = _schedule(self.loads, seconds, self.spec.arrivals, seed)
        start_ns = self.begin_ns = time.monotonic_ns() + 5_000_000
        planned = [start_ns + offset for offset in offsets]
        at, total = 0, len(planned)
        while at < total:
            now = time.monotonic_ns()
            while at < total and planned[at] <= now:
                self.lag.record_ns(now - planned[at])
                self._send(self.loads[owners[at]], planned[at])
                at += 1
                now = time.monotonic_ns()
            if at < total:
                self._receive((planned[at] - time.monotonic_ns()) / 1e9)
        self._drain()

    def closed_loop(self, seconds: float) -> None:
        """Keep every connection busy for so long, then wait for the answers."""
        self.begin_ns = time.monotonic_ns()
        end_ns = self.begin_ns + int(1e9 * seconds)
        for load in self.loads:
            for _ in range(len(load.idle)):
                self._send(load, time.monotonic_ns())
        while (now := time.monotonic_ns()) < end_ns and self.busy:
            for connection in self._receive((end_ns - now) / 1e9):
                self._send(connection.target, time.monotonic_ns())
        self._drain()

    def _send(self, load: _Load, planned_ns: int) -> None:
        request = load.request()
        if not load.idle:
            if load.opened >= 256:
                load.waiting.append((request, planned_ns))
                return
            load.idle.append(_Connection(load, load.address))
            load.opened += 1
        self._use(load.idle.pop(), request, planned_ns)

    def _use(self, connection: _Connection, request: bytes, planned_ns: int) -> None:
        connection.send(request, planned_ns)
        descriptor = connection.socket.fileno()
        self.busy[descriptor] = connection
        if connection.connecting:
            self.connecting.add(descriptor)

    def _receive(self, wait_s: float) -> list[_Connection]:
        """Read answers for at most so long, until at least one read; return the connections that got theirs."""
        readable, writable, _ = select.select(list(self.busy), self.connecting, (), max(0.0, wait_s))
        finished = []
        for descriptor in writable:
            self.connecting.discard(descriptor)
            self.busy[descriptor].write()
        for descriptor in readable:
            connection = self.busy[descriptor]
            load = connection.target
            try:
                complete = connection.receive()
            except (OSError, httptools.HttpParserError):
                self._lost(descriptor, connection)
                continue
            if not complete:
                continue
            load.count(connection, time.monotonic_ns(), self.begin_ns)
            del self.busy[descriptor]
            if load.waiting:
                self._use(connection, *load.waiting.popleft())
            else:
                load.idle.append(connection)
                finished.append(connection)
        return finished

    def _lost(self, descriptor: int, connection: _Connection) -> None:
        """A connection was closed under a request: send it again if it was stale, else count the error."""
        load = connection.target
        del self.busy[descriptor]
        self.connecting.discard(descriptor)
        connection.socket.close()
        if connection.stale:
            self._use(_Connection(load, load.address), connection.request, connection.planned_ns)
        else:
            load.opened -= 1
            load.errors["closed"] += 1

    def _drain(self) -> None:
        end = time.monotonic() + self.spec.timeout_s
        while self.busy and (left := end - time.monotonic()) > 0:
            self._receive(left)
        for connection in self.busy.values():
            connection.target.errors["timeout"] += 1
            connection.socket.close()
            connection.target.opened -= 1
        self.busy.clear()
        self.connecting.clear()
        for load in self.loads:
            load.errors["timeout"] += len(load.waiting)
            load.waiting.clear()


def _schedule(loads: list[_Load], seconds: float, arrivals: str, seed: int) -> tuple[list[int], list[int]]:
    """Return when each request is due (ns from the start) and whose it is, in order of time."""
    rng = np.random.default_rng(seed)
    times, owners = [], []
    for index, load in enumerate(loads):
        count = int(seconds * load.rate)
        gaps = rng.exponential(1.0, count) if arrivals == "poisson" else np.ones(count)
        due = np.cumsum(gaps) / load.rate + (0.0 if arrivals == "poisson" else index / (len(loads) * load.rate))
        times.append(due[due < seconds])
        owners.append(np.full(len(times[-1]), index))
    due, owner = np.concatenate(times), np.concatenate(owners)
    order = np.argsort(due, kind="stable")
    return (due[order] * 1e9).astype(np.int64).tolist(), owner[order].tolist()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(spec: Spec) -> Report:
    """Warm up, then load the targets as the spec says."""
    niceness = priority.take(spec.cpu)
    work = _Run(spec)
    gc.collect()
    gc.freeze()
    gc.disable()
    if spec.warmup_s > 0:
        if spec.closed:
            work.closed_loop(spec.warmup_s)
        else:
            work.open_loop(spec.warmup_s, spec.seed + 1)
    for load in work.loads:
        load.begin()
    work.lag = Latencies()
    cpu_s, start = _cpu_s(), time.monotonic()
    if spec.closed:
        work.closed_loop(spec.seconds)
    else:
        work.open_loop(spec.seconds, spec.seed)
    return Report(
        targets={load.name: load.report() for load in work.loads},
        seconds=time.monotonic() - start,
        lag_ms=work.lag.summary(),
        cpu_s=_cpu_s() - cpu_s,
        niceness=niceness,
    )


def main(arguments: list[str]) -> Any:
    """Run the spec whose file is named, print the report."""
    spec = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Spec)
    sys.stdout.buffer.write(msgspec.json.encode(run(spec)) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
