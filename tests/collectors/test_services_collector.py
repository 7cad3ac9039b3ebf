"""Request rates of local services: over restarted, slow, lying and vanished replicas."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest

from aiops.errors import ConfigError, NoData, Temporary
from aiops.plugins import load
from collectors.services import ServicesCollector


class Replicas:
    """A server that plays several replicas, one per path; `answers` may be changed at any time."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        replicas = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = replicas.answers.get(self.path)
                self.send_response(500 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, unit: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{unit}"

    def counts(self, **counts: float) -> None:
        self.answers = {f"/{unit}": text(count) for unit, count in counts.items()}


def text(count: float) -> bytes:
    seconds = f"http_request_seconds_sum {count * 0.2}\nhttp_request_seconds_count {count}\n"
    return f'# HELP x y\nhttp_requests_total{{code="200"}} {count - 1}\nhttp_requests_total{{code="500"}} 1\n{seconds}'.encode()


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    playing = Replicas()
    yield playing
    playing.server.shutdown()
    playing.server.server_close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "endpoints.json"


@pytest.fixture
def collector(path: Path) -> ServicesCollector:
    found = load("collectors", "services", {"endpoints": str(path)})
    assert isinstance(found, ServicesCollector)
    return found


def listed(path: Path, replicas: Replicas, *units: str, unready: tuple[str, ...] = ()) -> None:
    rows = [{"unit": unit, "ready": unit not in unready, "metrics": replicas.url(unit)} for unit in units]
    row = {"replicas": 3, "ready": len(units) - len(unready), "restarts": 2, "endpoints": rows}
    row |= {"counter": "http_requests_total", "latency": "http_request_seconds"}
    path.write_bytes(orjson.dumps({"at": 0.0, "services": {"web": row}}))


def read(collector: ServicesCollector, now: float) -> dict[str, float]:
    batch = collector.collect(now)
    assert batch.time == now and all(key.label("service") == "web" for key in batch.keys)
    return {key.metric.removeprefix("service_"): float(value) for key, value in zip(batch.keys, batch.values, strict=True)}


def test_totals_rate_and_latency_are_summed_over_replicas(collector: ServicesCollector, path: Path, replicas: Replicas) -> None:
    listed(path, replicas, "a", "b")
    replicas.counts(a=100, b=50)
    first = read(collector, 1000.0)
    assert first["replicas"] == 3 and first["ready_replicas"] == 2 and first["restarts_total"] == 2
    assert "requests_per_second" not in first  # a rate needs two looks
    replicas.counts(a=130, b=70)
    second = read(collector, 1010.0)
    assert second["requests_total"] - first["requests_total"] == 50
    assert second["requests_per_second"] == 5.0 and second["request_seconds"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("units", "counts", "rate", "why"),
    [
        (("a", "b"), {"a": 8, "b": 50}, 0.8, "a restarted replica counts from zero again, the rate is never negative"),
        (("a", "b", "c"), {"a": 100, "b": 50, "c": 20}, 2.0, "a new replica's whole count is new"),
        (("a",), {"a": 110}, 1.0, "a removed replica takes nothing back"),
        (("a", "b"), {"a": 100, "b": 50}, 0.0, "a confirmed zero is a value"),
        (("a", "b"), {"a": 500}, None, "a ready replica that cannot be read: the load is not known"),
        (("a", "b"), {"a": 500, "b": float("nan")}, None, "nor where it says nonsense"),
    ],
)
def test_the_rate_over_changing_replicas(
    collector: ServicesCollector,
    path: Path,
    replicas: Replicas,
    units: tuple[str, ...],
    counts: dict[str, float],
    rate: float | None,
    why: str,
) -> None:
    listed(path, replicas, "a", "b")
    replicas.counts(a=100, b=50)
    read(collector, 1000.0)
    listed(path, replicas, *units)
    replicas.answers = {f"/{unit}": f"http_requests_total {count}\n".encode() for unit, count in counts.items()}
    assert read(collector, 1010.0).get("requests_per_second") == rate, why


def test_a_gap_is_made_up_for_over_its_whole_length(collector: ServicesCollector, path: Path, replicas: Replicas) -> None:
    listed(path, replicas, "a")
    replicas.counts(a=100)
    read(collector, 1000.0)
    replicas.counts()
    assert "requests_per_second" not in read(collector, 1010.0)
    replicas.counts(a=200)
    assert read(collector, 1020.0)["requests_per_second"] == 5.0


def test_an_unready_replica_that_does_not_answer_hides_nothing(
    collector: ServicesCollector, path: Path, replicas: Replicas
) -> None:
    listed(path, replicas, "a", "b", unready=("b",))
    replicas.counts(a=100)
    read(collector, 1000.0)
    replicas.counts(a=200)
    assert read(collector, 1010.0)["requests_per_second"] == 10.0


def test_a_replica_older_than_the_collector_is_no_burst_of_load(
    collector: ServicesCollector, path: Path, replicas: Replicas
) -> None:
    listed(path, replicas, "a", "b", unready=("b",))
    replicas.counts(a=100)
    read(collector, 1000.0)
    replicas.counts(a=110, b=1_000_000)  # it served for days before we looked, and answers again
    assert read(collector, 1010.0)["requests_per_second"] == 1.0


def test_without_endpoints_there_is_no_data(collector: ServicesCollector, path: Path) -> None:
    with pytest.raises(NoData):
        collector.collect(0.0)
    path.write_bytes(orjson.dumps({"services": {}}))
    with pytest.raises(NoData):
        collector.collect(0.0)


@pytest.mark.parametrize("content", [b"{torn", b"[]", b'{"services": 3}', b"\xff"])
def test_a_damaged_file_is_no_zero(collector: ServicesCollector, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Temporary):
        collector.collect(0.0)


def test_a_body_without_end_is_not_read(collector: ServicesCollector, path: Path, replicas: Replicas) -> None:
    listed(path, replicas, "a")
    replicas.answers = {"/a": b"http_requests_total 5\n" + b"#" * (2 << 20)}
    assert "requests_total" not in read(collector, 1000.0)


@pytest.mark.parametrize(
    ("section", "key"), [({"path": "x"}, "collectors.services.path"), ({"timeout": "1h"}, "collectors.services.timeout")]
)
def test_a_wrong_setting_names_its_key(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load("collectors", "services", section)
