"""Whole daemons on a small cluster: what their users do, what their GPUs' owners answer, and a story that needs every part.

The cluster has three nodes of 8 GPUs; a service `web` whose load an exposition endpoint tells; a training job `train` whose
own side answers requests for checkpoints. Daemons are processes of their own (`aiops run`), with one lease in one database.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
from cluster_stage import JOBS, ClusterStage

from aiops.errors import Temporary

LEASE = "/apis/coordination.k8s.io/v1/namespaces/aiops/leases/aiops"
_CONFIG = """
data_dir: {data}
listen: {{port: 0}}
store: {{url: "{url}"}}
every: {{scrape: {every}s, tick: {every}s}}
backend: {{kubernetes: {backend}}}
collectors: {{prometheus: {{url: "http://127.0.0.1:{port}/metrics"}}}}
policies:
  prescale: {{mode: act}}
  preempt: {{mode: act, min_runtime_s: 5}}
  repair: {{mode: act, patience_s: 5}}
"""


class Load:
    """An endpoint that tells the load of `web`."""

    def __init__(self) -> None:
        self.value = 5.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = f'service_requests_per_second{{service="default/deployments/web"}} {outer.value}\n'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Owners:
    """The jobs' own side: each run has a checkpoint when it starts, and answers each request with a new one."""

    def __init__(self, cluster: ClusterStage) -> None:
        self._cluster, self._ended = cluster, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered: list[str] = []

    def __enter__(self) -> "Owners":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            try:
                for row in self._cluster.rest.get(JOBS)["items"]:
                    self._answer(row)
            except Temporary:
                continue

    def _answer(self, row: dict[str, Any]) -> None:
        asked = row["metadata"].get("annotations", {}).get("aiops.io/checkpoint-requested", "").split()
        if len(asked) == 3 and asked[0] not in self.answered:
            proof = {"id": asked[0], "run_id": asked[1], "at": self._cluster.now(), "verified": True, "step": 100}
            notes = {"metadata": {"annotations": {"aiops.io/checkpoint": orjson.dumps(proof).decode()}}}
            self._cluster.rest.patch(f"{JOBS}/{row['metadata']['name']}", notes)
            self.answered.append(asked[0])


@dataclass
class Daemons:
    """`aiops run` as processes; each with a directory of its own, all with one database."""

    directory: Path
    url: str
    port: int
    backend: dict[str, Any]
    every: int = 2
    wrap: tuple[str, ...] = ()
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start it, or start it again after a kill."""
        home = self.directory / name
        home.mkdir(exist_ok=True)
        config = home / "aiops.yaml"
        inner = orjson.dumps(self.backend).decode()
        config.write_text(_CONFIG.format(data=home, url=self.url, every=self.every, port=self.port, backend=inner))
        command = [*self.wrap, sys.executable, "-m", "aiops.cli.main", "run", "--config", str(config)]
        with (home / "log").open("ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.running[name].pid, number)
        if number is signal.SIGKILL:
            self.running.pop(name).wait()

    def log(self, name: str) -> str:
        return (self.directory / name / "log").read_text()

    def __enter__(self) -> "Daemons":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


def leader(cluster: ClusterStage) -> tuple[str, int] | None:
    """Holder and epoch as the Lease object shows them."""
    try:
        spec = cluster.rest.get(LEASE)["spec"]
    except Temporary:
        return None
    return spec["holderIdentity"], spec["leaseTransitions"]


def wait(what: str, holds: Callable[[], Any], bound_s: float, why: Callable[[], object] = lambda: "") -> Any:
    """What `holds` gives once it is anything; fails with what `why` says."""
    deadline = time.monotonic() + bound_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {bound_s:.0f} s: {what}; {why()}"
        time.sleep(0.2)
    return found
