"""slurmctld's OpenMetrics, served as the plug-in of 25.11 writes them, and tokens that run out."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from aiops.errors import ConfigError, NoData, Temporary
from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey
from collectors.slurm import NAMES, SlurmCollector


def family(name: str, value: float, label: str = "", desc: str = "x") -> str:
    """As `metrics_p_dump` prints: HELP, TYPE gauge, then the samples; without an end mark."""
    return f"# HELP {name} {desc}\n# TYPE {name} gauge\n{name}{label} {value:g}\n"


PAGES = {
    "/metrics/jobs": family("slurm_jobs", 42) + family("slurm_jobs_running", 15) + family("slurm_jobs_pending", 27)
    + family("slurm_jobs_gpus_alloc", 120) + family("slurm_jobs_hold", 2),
    "/metrics/nodes": family("slurm_nodes", 2) + family("slurm_nodes_idle", 1) + family("slurm_nodes_powering_up", 9)
    + family("slurm_node_gpus", 8, '{node="gpu1"}') + 'slurm_node_gpus{node="gpu2"} 8\n'
    + family("slurm_node_gpus_alloc", 3, '{node="gpu1"}') + family("slurm_node_memory_bytes", 1e9, '{node="gpu1"}'),
    "/metrics/partitions": family("slurm_partitions", 1) + family("slurm_partition_jobs_pending", 7, '{partition="train"}')
    + family("slurm_partition_jobs_gpus_alloc", 64, '{partition="train"}'),
    "/metrics/scheduler": family("slurm_bf_cycle_last", 250000) + family("slurm_schedule_cycle_last", 1500)
    + family("slurm_agent_queue_size", 3) + family("slurm_server_thread_cnt", 4) + family("slurm_slurmdbd_queue_size", 0),
}  # fmt: skip


class Slurmctld(ThreadingHTTPServer):
    """Its metrics, and what was asked of it."""

    def __init__(self) -> None:
        self.pages, self.seen = dict(PAGES), []
        super().__init__(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    server: Slurmctld

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        text = self.server.pages.get(self.path)
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slurmctld() -> Iterator[Slurmctld]:
    server = Slurmctld()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def collected(**section: object) -> dict[SeriesKey, float]:
    batch = SlurmCollector.from_settings(section, "test").collect(1000.0)
    return dict(zip(batch.keys, map(float, batch.values), strict=True))


def test_what_slurmctld_says_in_the_catalogues_names(slurmctld: Slurmctld) -> None:
    found = collected(url=slurmctld.url)
    for key, value in (
        (SeriesKey.of("cluster_jobs", state="running"), 15.0),
        (SeriesKey.of("cluster_jobs", state="hold"), 2.0),
        (SeriesKey.of("cluster_jobs", state="pending", queue="train"), 7.0),
        (SeriesKey.of("cluster_gpus", state="allocated"), 120.0),
        (SeriesKey.of("queue_gpus_allocated", queue="train"), 64.0),
        (SeriesKey.of("cluster_nodes", state="idle"), 1.0),
        (SeriesKey.of("node_gpus", node="gpu2"), 8.0),
        (SeriesKey.of("node_gpus_allocated", node="gpu1"), 3.0),
        (SeriesKey.of("slurm_scheduler_cycle_seconds", kind="backfill"), 0.25),
        (SeriesKey.of("slurm_scheduler_cycle_seconds", kind="main"), 0.0015),
        (SeriesKey.of("slurm_dbd_queue_messages"), 0.0),
    ):
        assert found[key] == pytest.approx(value), key
    assert SeriesKey.of("cluster_nodes", state="powering_up") not in found, "25.11 counts there what is powering down"
    assert {key.metric for key in found} <= set(CATALOGUE)
    assert sorted(path for path, _ in slurmctld.seen) == sorted(PAGES), "never the endpoint of users and accounts"


def test_every_name_stands_in_the_catalogue_with_its_labels() -> None:
    for metric, labels, _ in NAMES.values():
        row = CATALOGUE[metric]
        assert {label for label, _ in labels} <= set(row.labels), metric


def test_an_endpoint_that_fails_costs_its_own_series(slurmctld: Slurmctld) -> None:
    slurmctld.pages |= {"/metrics/nodes": "<html>", "/metrics/scheduler": family("other", 1)}
    del slurmctld.pages["/metrics/jobs"]
    found = collected(url=slurmctld.url)
    up = {key.label("target").rpartition("/")[2]: value for key, value in found.items() if key.metric == "aiops_target_up"}
    assert up == {"jobs": 0.0, "nodes": 0.0, "partitions": 1.0, "scheduler": 0.0}
    assert SeriesKey.of("cluster_jobs", state="running") not in found, "missing is not zero"


def test_an_older_slurmctld_has_none_of_it(slurmctld: Slurmctld) -> None:
    slurmctld.pages.clear()
    with pytest.raises(Temporary, match="404"):
        collected(url=slurmctld.url)


def token(**found: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip('=')}.x"


def test_tokens_are_shown_renewed_and_watched(slurmctld: Slurmctld, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(token(exp=1600, iat=600) + "\n")
    section = {"url": slurmctld.url, "token_file": str(path), "tokens": {"slurm": str(path), "gone": str(tmp_path / "no")}}
    found = collected(**section)
    assert found[SeriesKey.of("aiops_token_expires_in_seconds", token="slurm")] == 600.0
    assert found[SeriesKey.of("aiops_token_lifetime_seconds", token="slurm")] == 1000.0
    assert not [key for key in found if key.label("token") == "gone"], "missing is not zero"
    assert {auth for _, auth in slurmctld.seen} == {f"Bearer {path.read_text().strip()}"}
    path.write_text(token(exp=500))
    assert collected(tokens={"slurm": str(path)}) == {SeriesKey.of("aiops_token_expires_in_seconds", token="slurm"): -500.0}
    path.write_text("nonsense")
    with pytest.raises(NoData):
        collected(tokens={"slurm": str(path)})


@pytest.mark.parametrize(
    "section", [{}, {"url": "slurmctld:6817"}, {"url": "http://x/metrics"}, {"tokens": ["a"]}, {"more": 1}]
)
def test_a_wrong_section_is_named(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"collectors\.slurm"):
        SlurmCollector.from_settings(section, "test")
