"""Behind a real server and over the real stores: streams, and answers that do not depend on which store it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from api_house import LOAD, NOW, Client, House, cluster, forecast, seeded, served

from aiops.api.routes import events
from aiops.model import Batch
from aiops.ports import Store
from aiops.settings import Settings
from aiops.snapshot import Decided, Snapshot
from aiops.store.memory import MemoryStore
from aiops.store.opening import open_store

READS = [
    "cluster", "nodes", "jobs", "services", "series", "series/latest?metric=service_requests_per_second", "forecasts",
    "findings", "findings/history", "incidents", "decisions", "decisions/a-1", "entries", "reservations", "orders",
    "keda/chat", "status",
]  # fmt: skip


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A real store with one recorded cycle, a forecast, a finding and a few samples."""
    made: Any = MemoryStore() if request.param == "memory" else open_store(None, Settings(data_dir=tmp_path))
    epoch = made.acquire("test", NOW, 60.0)
    old = seeded()
    for n in range(30):
        made.append(Batch.of(NOW - 300 + 10 * n, [(LOAD, 100.0 + n)]))
    made.put_forecasts([forecast(str(LOAD), NOW - 30, 100.0)])
    made.put_findings(NOW - 20, old.findings())
    decided = Decided(admissions=tuple(a for a, _ in old.admitted if a.denied is not None))
    made.record(Snapshot(id="c-1", now=NOW - 4, epoch=epoch, cluster=cluster()), decided)
    yield made
    made.close()


def test_every_read_works_over_the_real_stores(store: Store) -> None:
    client = Client(House(store=store))  # type: ignore[arg-type]
    for path in READS:
        assert client.get(f"/api/v1/{path}").status_code == 200, path
    assert client.get("/metrics").status_code == 200
    values = client.get(f"/api/v1/series/data?metric={LOAD.metric}").json()["series"][0]["values"]
    assert values == [100.0 + n for n in range(30)]


def test_orders_are_kept_and_repeated_by_the_real_stores(store: Store) -> None:
    house = House(store=store)  # type: ignore[arg-type]
    client = Client(house)
    first, second = (client.post("/api/v1/orders", b'{"kind": "pause"}', **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.status_code == 201 and first.content == second.content
    assert len(store.orders(NOW + 1)) == 1


def test_a_stream_tells_of_a_change() -> None:
    house = House(store=seeded())
    with served(house) as url, httpx.stream("GET", f"{url}/api/v1/events", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        assert '"halted":false' in next(lines)
        house.status = replace(house.status, halted=True)
        assert '"halted":true' in next(lines)


def test_a_full_house_answers_204(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 0)
    assert Client(House()).get("/api/v1/events").status_code == 204


def test_a_real_server_answers_ten_thousand_points() -> None:
    house = House(store=seeded())
    times = NOW - 9_999 + np.arange(10_000.0)
    house.store.series[LOAD] = (times, np.sin(times))
    with served(house) as url:
        found = httpx.get(f"{url}/api/v1/series/data?metric={LOAD.metric}&match=service=chat&window=10000s").json()
    assert found["series"][0]["values"] == list(np.sin(times))
