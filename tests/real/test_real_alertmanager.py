"""Our webhook body beside that of a real Alertmanager for the same alerts: same keys, same group key, same fingerprints."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest

from aiops.notify.alert import Alert
from aiops.notify.payload import webhook_body
from aiops.notify.route import route
from aiops.settings import Route

pytestmark = pytest.mark.real
LABELS = (("alertname", "IoStall"), ("quote", 'a "b" \\ c'), ("subject", "volume/节点"))
NEWER = {"notification_reason", "routeLabels"}  # fields that Alertmanager has had since 0.34


@pytest.fixture
def bodies() -> Iterator[tuple[str, "Queue[dict[str, Any]]"]]:
    got: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alertmanager(bodies: tuple[str, Any], tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("Alertmanager is not installed")
    timing = "group_wait: 100ms, group_interval: 1s, group_by: [alertname, subject]"
    (tmp_path / "am.yml").write_text(
        f"route: {{receiver: ops, {timing}}}\nreceivers: [{{name: ops, webhook_configs: [{{url: '{bodies[0]}'}}]}}]\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [binary, f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/data", f"--web.listen-address={address}"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--cluster.listen-address="], **quiet)
    try:
        ready(f"http://{address}/-/ready")
        yield f"http://{address}/api/v2/alerts"
    finally:
        process.terminate()
        process.wait(20)


def ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    pytest.fail("Alertmanager did not become ready within 30 s")


def ours(now: float, firing: bool, groups: tuple[Any, ...]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    alert = Alert(labels=LABELS, annotations=(("summary", "slow"),), starts_at=now, seen_at=now)
    routed = route([alert] if firing else [], groups, Route(receiver="ops"), (), now)
    return (json.loads(webhook_body(routed.notices[0], "ops")) if routed.notices else {}), routed.groups


def test_the_same_alert_makes_the_same_body(alertmanager: str, bodies: tuple[str, "Queue[dict[str, Any]]"]) -> None:
    alert = {"labels": dict(LABELS), "annotations": {"summary": "slow"}, "startsAt": "2026-01-01T00:00:00Z"}
    httpx.post(alertmanager, json=[alert], trust_env=False).raise_for_status()
    theirs_firing = bodies[1].get(timeout=30)
    httpx.post(alertmanager, json=[alert | {"endsAt": "2026-01-01T00:01:00Z"}], trust_env=False).raise_for_status()
    theirs_resolved = bodies[1].get(timeout=30)

    now = 1767225600.0  # 2026-01-01T00:00:00Z
    _, groups = ours(now, True, ())
    firing, groups = ours(now + 30, True, groups)
    resolved, _ = ours(now + 330, False, groups)

    for mine, theirs in ((firing, theirs_firing), (resolved, theirs_resolved)):
        assert mine.keys() - NEWER == theirs.keys() - NEWER
        assert mine["alerts"][0].keys() == theirs["alerts"][0].keys()
        for key in ("version", "groupKey", "truncatedAlerts", "receiver", "status", "groupLabels", "commonLabels"):
            assert mine[key] == theirs[key], key
        assert mine["commonAnnotations"] == theirs["commonAnnotations"]
        for key in ("status", "labels", "annotations", "fingerprint"):
            assert mine["alerts"][0][key] == theirs["alerts"][0][key], key
    assert firing["alerts"][0]["endsAt"] == theirs_firing["alerts"][0]["endsAt"]
