"""A seeded house for the interface's tests: a store in memory with the port's semantics, and a realistic small cluster.

Run as a program it serves the dashboard on loopback for looking at: `python tests/api/api_house.py PORT [SECONDS]`.
"""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import httpx
import numpy as np

from aiops.action import (
    Admission,
    Cordon,
    Decision,
    Deny,
    Effect,
    Entry,
    EntryState,
    Mode,
    Order,
    OrderKind,
    Outcome,
    Receipt,
    ScaleService,
    SetPowerLimit,
    Verdict,
)  # fmt: skip
from aiops.api.app import create_app
from aiops.api.status import CollectorState, Status
from aiops.clock import ManualClock
from aiops.errors import Unreadable
from aiops.model import (
    Cause,
    Checkpoint,
    Cluster,
    Evidence,
    Finding,
    Forecast,
    Gpu,
    HoldState,
    Job,
    JobState,
    Match,
    Node,
    NodeState,
    Pool,
    Query,
    Queue,
    Reservation,
    Series,
    SeriesKey,
    Service,
)  # fmt: skip
from aiops.ports import Message
from aiops.settings import Settings
from aiops.snapshot import Snapshot

NOW = 1_790_000_000.0
LOAD = SeriesKey.of("service_requests_per_second", service="chat")


@dataclass
class FakeStore:
    """The methods of `ports.Store` that the interface uses, over plain lists; `broken` makes every call fail."""

    series: dict[SeriesKey, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    made: list[Forecast] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    admitted: list[tuple[Admission, str]] = field(default_factory=list)
    ledger: list[Entry] = field(default_factory=list)
    given: list[Order] = field(default_factory=list)
    held: list[Reservation] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    broken: bool = False

    def __getattribute__(self, name: str) -> Any:
        method = object.__getattribute__(self, name)
        if callable(method) and not name.startswith("_") and object.__getattribute__(self, "broken"):
            raise Unreadable("database is gone")
        return method

    def read(self, query: Query, now: float) -> tuple[Series, ...]:
        chosen = []
        for key, (times, values) in sorted(self.series.items()):
            labels = dict(key.labels)
            wanted = all((labels.get(m.label, "") == m.value) is (m.op is Match.EQUAL) for m in query.matchers)
            inside = (times > now - query.window_s) & (times <= now)
            if key.metric == query.metric and wanted and inside.any():
                at, points = times[inside], values[inside]
                if query.step_s:
                    last = np.append(np.diff(np.floor(at / query.step_s)) > 0, True)
                    at, points = at[last], points[last]
                chosen.append(Series(key=key, times=at, values=points))
        return tuple(chosen)

    def keys(self, metric: str | None = None) -> tuple[SeriesKey, ...]:
        return tuple(sorted(key for key in self.series if metric is None or key.metric == metric))

    def forecasts(self, made_since: float = 0.0) -> tuple[Forecast, ...]:
        newest = {f.target: f for f in sorted(self.made, key=lambda f: f.made_at) if f.made_at >= made_since}
        return tuple(newest[target] for target in sorted(newest))

    def forecast_history(self, target: str, since: float, until: float) -> tuple[Forecast, ...]:
        return tuple(
            f for f in sorted(self.made, key=lambda f: f.made_at) if f.target == target and since <= f.made_at <= until
        )

    def findings(self) -> tuple[Finding, ...]:
        newest = max((f.at for f in self.found), default=0.0)
        return tuple(f for f in self.found if f.at == newest)

    def diagnosed_at(self) -> float | None:
        return max((f.at for f in self.found), default=None)

    def finding_history(self, since: float, until: float, limit: int = 1000) -> tuple[Finding, ...]:
        return tuple(sorted((f for f in self.found if since <= f.at <= until), key=lambda f: -f.at))[:limit]

    def cycles(self, since: float, until: float) -> tuple[str, ...]:
        return tuple(id for id, s in sorted(self.snapshots.items(), key=lambda kv: kv[1].now) if since <= s.now <= until)

    def cycle(self, id: str) -> tuple[Snapshot, bytes]:
        return self.snapshots[id], b"{}"

    def admissions(self, since: float, until: float, limit: int = 1000) -> tuple[Admission, ...]:
        return tuple(sorted((a for a, _ in self.admitted if since <= a.at <= until), key=lambda a: -a.at))[:limit]

    def admission(self, id: str) -> tuple[Admission, str]:
        return {a.id: (a, cycle) for a, cycle in self.admitted}[id]

    def entries(self, since: float, only_open: bool = False, limit: int = 10_000) -> tuple[Entry, ...]:
        opened = (EntryState.INTENT, EntryState.SENT)
        return tuple(e for e in self.ledger if e.state in opened or (not only_open and e.changed_at > since))[:limit]

    def reservations(self) -> tuple[Reservation, ...]:
        return tuple(self.held)

    def put_order(self, order: Order) -> None:
        self.given.append(order)

    def orders(self, now: float) -> tuple[Order, ...]:
        return tuple(o for o in self.given if o.until is None or o.until > now)

    def dead_letters(self, limit: int = 100) -> tuple[Message, ...]:
        return tuple(self.dead[:limit])

    def put_state(self, name: str, value: bytes) -> None:
        self.blobs[name] = value

    def state(self, name: str) -> bytes | None:
        return self.blobs.get(name)


@dataclass
class House:
    """An application over a fake store, with a manual clock and a kill switch that notes what it was told."""

    store: FakeStore = field(default_factory=FakeStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(wall=NOW, monotonic=100.0))
    settings: Settings = field(default_factory=Settings)
    status: Status = field(default_factory=lambda: ready())
    killed: list[bool] = field(default_factory=list)

    def app(self) -> Any:
        return create_app(self.store, self.settings, self.clock, self.now_status, self.kill)  # type: ignore[arg-type]

    def now_status(self) -> Status:
        return self.status

    def kill(self, engaged: bool) -> None:
        self.killed.append(engaged)
        self.status = replace(self.status, halted=engaged)


class Client:
    """Blocking requests to an application in this process; an exception inside it is a 500, as behind a real server."""

    def __init__(self, house: House, **headers: str) -> None:
        self._app, self._headers = house.app(), headers

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.send("GET", path, None, **headers)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        return self.send("POST", path, body, **{"X-Aiops-Request": "1", "Content-Type": "application/json"} | headers)

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
                return await client.request(method, path, content=body, headers=self._headers | headers)

        return anyio.run(ask)


@contextmanager
def served(house: House, port: int = 0) -> Iterator[str]:
    """The application behind a real uvicorn on loopback; the address."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(house.app(), log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def ready() -> Status:
    """A daemon in good health, one collector of which is not."""
    return Status(
        ready=True,
        leader=True,
        last_cycle_at=NOW - 4.0,
        last_cycle_s=0.084,
        collectors=(
            CollectorState(name="host", ok=True, last_success_at=NOW - 4, seconds=0.01),
            CollectorState(name="nvml", ok=True, last_success_at=NOW - 4, seconds=0.03),
            CollectorState(name="storage", ok=False, last_success_at=NOW - 310, seconds=2.0, error="nfs01: timed out"),
        ),
    )


def forecast(target: str, made_at: float, level: float, **changes: Any) -> Forecast:
    """Half an hour ahead in five-minute steps, rising a little, with a band that widens."""
    times = made_at + 300.0 * np.arange(1, 7)
    quantiles = np.array([0.05, 0.25, 0.5, 0.75, 0.9, 0.95])
    middle = level * (1 + 0.05 * np.arange(1, 7))
    spread = level * 0.02 * np.sqrt(np.arange(1, 7))
    values = middle + np.outer([-1.64, -0.67, 0.0, 0.67, 1.28, 1.64], spread)
    known: dict[str, Any] = {"model": "boosting", "skill": 0.31, "coverage": 0.91} | changes
    return Forecast(target=target, made_at=made_at, times=times, quantiles=quantiles, values=values, **known)


def cluster(now: float = NOW) -> Cluster:
    """Two GPU nodes, one CPU node that is cordoned; a service; a training run and one that waits."""
    nodes = tuple(
        Node(
            name=f"gpu-{n:02d}", uid=f"u{n}", pool="h100", state=NodeState.READY if n < 2 else NodeState.CORDONED,
            gpus=tuple(
                Gpu(uuid=f"GPU-{n}{i}", index=i, model="NVIDIA H100 80GB HBM3", memory_bytes=85e9, healthy=(n, i) != (1, 6))
                for i in range(8)
            ),
            cpu_cores=96.0, memory_bytes=1e12, rack="r1", reason="" if n < 2 else "XID 79 twice in an hour",
        )
        for n in range(3)
    )  # fmt: skip
    proof = Checkpoint(id="step-41000", run_id="r9", at=now - 900, read_at=now - 12, verified=True, step=41000)
    jobs = (
        Job(id="8812", run_id="r9", name="llama-ft", queue="research", state=JobState.RUNNING, gpus=8, submitted_at=now - 9000,
            nodes=("gpu-00",), started_at=now - 8000, checkpoint=proof, preemptible=True, tenant="nlp"),
        Job(id="8813", run_id="r1", name="eval-suite", queue="research", state=JobState.QUEUED, gpus=4,
            submitted_at=now - 1200),
        Job(id="8814", run_id="r1", name="<img src=x onerror=alert(1)>", queue="research", state=JobState.RUNNING, gpus=6,
            submitted_at=now - 500, nodes=("gpu-01",)),
    )  # fmt: skip
    services = (
        Service(name="chat", uid="s1", version="7", pool="h100", replicas=4, ready=3, min_replicas=2, max_replicas=12,
                load=LOAD, target=40.0, gpus_per_replica=1, start_s=(41.0, 44.0, 39.0)),
        Service(name="embed", uid="s2", version="3", pool="h100", replicas=2, ready=2, min_replicas=1, max_replicas=4,
                load=SeriesKey.of("service_requests_per_second", service="embed"), target=100.0),
    )  # fmt: skip
    return Cluster(
        at=now - 4, backend="local", nodes=nodes, jobs=jobs, services=services,
        pools=(Pool(name="h100", gpu_type="H100", nodes=3, min_nodes=0, max_nodes=8),),
        queues=(Queue(name="research", quota_gpus=16),),
    )  # fmt: skip


def seeded(now: float = NOW) -> FakeStore:
    """A store with six hours of life in it."""
    store = FakeStore()
    rng = np.random.default_rng(7)
    t = now - 6 * 3600 + 10.0 * np.arange(2160 + 360)  # an hour more than now, so that a served house stays alive
    rate = 110 + 45 * np.sin((t - now) / 5400.0) + rng.normal(0, 4, len(t))
    store.series[LOAD] = (t, np.maximum(rate, 0))
    embed = SeriesKey.of("service_requests_per_second", service="embed")
    store.series[embed] = (t, 130 + rng.normal(0, 9, len(t)))
    for n in range(2):
        for i in range(8):
            labels = {"node": f"gpu-{n:02d}", "gpu": str(i), "uuid": f"GPU-{n}{i}"}
            lost = (n, i) == (1, 6)
            _gauge(store, "gpu_up", labels, t, 0.0 if lost else 1.0)
            if not lost:
                busy = 0.93 if n == 0 else 0.35 + 0.05 * i
                _gauge(store, "gpu_utilization_ratio", labels, t, np.clip(busy + rng.normal(0, 0.04, len(t)), 0, 1))
                _gauge(store, "gpu_memory_used_bytes", labels, t, 85e9 * (0.5 + 0.05 * i))
                _gauge(store, "gpu_memory_total_bytes", labels, t, 85e9)
                _gauge(store, "gpu_temperature_celsius", labels | {"sensor": "gpu"}, t, (61 + 3 * i) if i != 7 else 88)
                _gauge(store, "gpu_power_watts", labels, t, 420 + 25 * i)
                _gauge(store, "gpu_power_limit_watts", labels, t, 700)
                _gauge(store, "gpu_energy_joules_total", labels, t, 400 * (t - now + 1e6))
    for n in range(3):
        labels = {"node": f"gpu-{n:02d}"}
        _gauge(store, "node_memory_MemTotal_bytes", labels, t, 1e12)
        _gauge(store, "node_memory_MemAvailable_bytes", labels, t, 1e12 * (0.55 - 0.1 * n))
        _gauge(store, "node_cpu_count", labels, t, 96.0)
        _gauge(store, "node_load1", labels, t, 38.0 + 8 * n + rng.normal(0, 2, len(t)))
        mount = {"device": "/dev/nvme0n1p2", "fstype": "ext4", "mountpoint": "/scratch"}
        _gauge(store, "node_filesystem_size_bytes", labels | mount, t, 7.6e12)
        _gauge(store, "node_filesystem_avail_bytes", labels | mount, t, 7.6e12 * (0.06 if n == 1 else 0.4))
        _gauge(store, "node_network_receive_bytes_total", labels | {"device": "eth0"}, t, 2.4e9 * (t - now + 1e6))
        _gauge(store, "node_network_transmit_bytes_total", labels | {"device": "eth0"}, t, 1.1e9 * (t - now + 1e6))
        _gauge(store, "node_disk_read_bytes_total", labels | {"device": "nvme0n1"}, t, 3.3e9 * (t - now + 1e6))
        _gauge(store, "node_disk_written_bytes_total", labels | {"device": "nvme0n1"}, t, 0.4e9 * (t - now + 1e6))
        _gauge(store, "node_pressure_io_waiting_seconds_total", labels, t, (0.31 if n == 1 else 0.02) * (t - now + 1e6))
    for made in np.arange(now - 7200, now, 300.0):
        store.made.append(forecast(str(LOAD), made, 110 + 45 * math.sin((made - now) / 5400.0)))
    store.made.append(forecast(str(embed), now - 60, 130.0, refused="no skill against last value", skill=-0.1, model="prophet"))
    disk = SeriesKey.of(
        "node_filesystem_avail_bytes", node="gpu-01", device="/dev/nvme0n1p2", fstype="ext4", mountpoint="/scratch"
    )
    store.made.append(forecast(str(disk), now - 60, 0.4e12, model="last_value", skill=None, coverage=None))
    seen = cluster(now)
    _record(store, now, seen)
    return store


def _gauge(store: FakeStore, metric: str, labels: Mapping[str, str], t: np.ndarray, value: Any) -> None:
    store.series[SeriesKey.of(metric, **labels)] = (t, np.broadcast_to(np.asarray(value, dtype=float), t.shape).copy())


def _record(store: FakeStore, now: float, seen: Cluster) -> None:
    found = (
        Finding(
            id="f-io", at=now - 20, cause=Cause.IO_STALL, subject="job/8814", score=4.1, confidence=0.92, since=now - 840,
            sli="job_step_duration_seconds", chain=("job/8814", "loader/gpu-01", "volume/scratch", "job/8790"),
            neighbour="job/8790",
            summary="Training waits for storage: loaders on gpu-01 wait 61 % of each step for volume scratch.",
            evidence_for=(
                Evidence(text="data wait is 61 % of step time, 8 % before", series="job_data_wait_seconds_total", value=0.61,
                         baseline=0.08),
                Evidence(text="I/O pressure on gpu-01 is 31 %, 2 % before", value=0.31, baseline=0.02),
            ),
            evidence_against=(Evidence(text="GPU temperature and clocks are as before"),),
            counterfactual={"job_step_duration_seconds": 0.42},
        ),
        Finding(
            id="f-full", at=now - 20, cause=Cause.EXHAUSTION, subject="volume/gpu-01:/scratch", score=2.2, confidence=0.71,
            horizon_s=1320.0, summary="Volume /scratch on gpu-01 is foreseen to be full in 22 minutes.",
            evidence_for=(Evidence(text="6 % free and falling by 0.25 % a minute", value=0.06, baseline=0.4),),
        ),
        Finding(
            id="f-unk", at=now - 20, cause=Cause.UNKNOWN, subject="service/embed", score=0.4, confidence=0.3, since=now - 300,
        ),
    )  # fmt: skip
    store.found.extend(found)
    store.found.append(replace(found[0], id="f-old", at=now - 7200, since=now - 7900, subject="job/8790"))
    scale = ScaleService(service="chat", uid="s1", version="6", replicas=4, was=3)
    rows = (
        (scale, "P90 load in 10 min is 158 req/s, 4 replicas carry 160", None, Mode.ACT, now - 640),
        (replace(scale, replicas=5, was=4), "P90 load in 10 min is 171 req/s, 5 replicas carry 200", Deny.COOLDOWN, Mode.ACT,
         now - 300),
        (SetPowerLimit(node="gpu-01", gpu="GPU-17", watts=600.0, was=700.0), "GPU 7 of gpu-01 is at 88 °C and throttles",
         Deny.ADVISE_ONLY, Mode.ADVISE, now - 200),
        (Cordon(node="gpu-01", uid="u1", reason="GPU 6 fell off the bus"), "GPU 6 of gpu-01 does not answer since 14:02",
         Deny.NEEDS_APPROVAL, Mode.ACT, now - 120),
        (replace(scale, replicas=5, was=4), "P90 load in 10 min is 174 req/s, 5 replicas carry 200", Deny.OBSERVE_ONLY,
         Mode.OBSERVE, now - 4),
    )  # fmt: skip
    snapshot = Snapshot(
        id="7-1", now=now - 4, epoch=7, cluster=seen, forecasts=store.forecasts(), findings=found, due=("prescale",),
        series={"load": store.read(Query(metric=LOAD.metric, window_s=600.0), now)}, modes={"prescale": Mode.ACT},
        supports=("scale_service",),
    )  # fmt: skip
    store.snapshots[snapshot.id] = snapshot
    for n, (action, reason, denied, mode, at) in enumerate(rows):
        decision = Decision(
            policy="prescale" if isinstance(action, ScaleService) else "remedy", action=action, reason=reason,
            evidence=("4 replicas, 3 ready", "forecast by boosting, skill 0.31, coverage 0.91"), inputs_at=at - 6,
            expect="load per replica at most 40 req/s", rejected=("6 replicas: one more than P95 needs",),
        )  # fmt: skip
        detail = "last scale-up 340 s ago, cooldown 600 s" if denied is Deny.COOLDOWN else ""
        row = Admission(id=f"a-{n}", at=at, decision=decision, denied=denied, detail=detail, mode=mode)
        store.admitted.append((row, snapshot.id))
    first = store.admitted[0][0]
    store.ledger.append(
        Entry(
            admission=first, state=EntryState.CONFIRMED, epoch=7, expires_at=first.at + 300,
            changed_at=first.at + 50, attempts=1,
            receipt=Receipt(id=first.id, outcome=Outcome.DONE, detail="4 replicas requested"),
            verdict=Verdict(id=first.id, at=first.at + 50, effect=Effect.PRESENT, detail="4 replicas, 37 req/s each"),
        )
    )  # fmt: skip
    store.given.append(
        Order(
            id="o-1",
            at=now - 5000,
            by="ann",
            kind=OrderKind.SILENCE,
            target="job/8790",
            until=now + 3600,
            note="known",
        )
    )
    store.held.append(
        Reservation(name="hold-chat-5", owner="chat", state=HoldState.HELD, fence=1, created_at=now - 20, expires_at=now + 10,
                    hard_cap_at=now + 100, nodes=("gpu-00",), gpus=1)
    )  # fmt: skip


@dataclass
class LiveClock:
    """The wall clock of this machine, for a house that a browser looks at."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.monotonic()


def live_house() -> House:
    """The seeded house as of this very moment."""
    now = time.time()
    house = House(store=seeded(now), clock=LiveClock())  # type: ignore[arg-type]
    house.settings = Settings(policies={"prescale": {"mode": "act"}, "remedy": {"mode": "advise"}})  # type: ignore[arg-type, dict-item]
    moved = tuple(replace(c, last_success_at=(c.last_success_at or 0) - NOW + now) for c in house.status.collectors)
    house.status = replace(house.status, last_cycle_at=now - 4, collectors=moved)
    return house


def main(port: int, seconds: float) -> None:
    """Serve the seeded house for a while."""
    house = live_house()
    with served(house, port) as url:
        print(url, flush=True)
        for _ in range(int(seconds)):
            time.sleep(1)
            house.status = replace(house.status, last_cycle_at=time.time() - 4)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 600.0)
