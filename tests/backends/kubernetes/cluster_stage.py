"""A whole small cluster behind an API server that is known by REST only: three nodes, a service and a job.

The same tests run over the in-process server, which plays the controllers itself, and over a real control plane, to which
`kubelets.py` adds the kubelets.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from kubelets import Kubelets
from kubernetes_stage import deployment, job, node
from real_control_plane import RealApiServer

from aiops.backends.kubernetes import KubernetesBackend
from aiops.backends.kubernetes.connection import Connection, Object, Refused
from aiops.backends.kubernetes.declare import read
from aiops.clock import SystemClock
from aiops.model import Cluster, Job, JobState
from aiops.testing.kubernetes import ApiServer

NODES, PODS, ACCOUNT = "/api/v1/nodes", "/api/v1/namespaces/default/pods", "/api/v1/namespaces/aiops/configmaps/aiops-account"
DEPLOYMENTS, JOBS = "/apis/apps/v1/namespaces/default/deployments", "/apis/batch/v1/namespaces/default/jobs"
PLACEHOLDERS = "/api/v1/namespaces/aiops/pods"
CLASSES = (("aiops-hold", 1_000_000, "Never"), ("aiops-headroom", -10, "Never"))
SECTION = {
    "links": {"fabric": {"capacity": 100.0}, "leaf": {"capacity": 60.0, "parent": "fabric"}},
    "pools": {"default": {"min": 0, "max": 5}},
}


class ClusterStage:
    """What tests of actions need of a cluster; implements `aiops.testing.backend.Stage` but for breaking it."""

    server: ApiServer  # in process only

    def __init__(self, kubeconfig: Path) -> None:
        self.section: dict[str, Any] = {"kubeconfig": str(kubeconfig), "watch": 1.0, **SECTION}
        self.rest = Connection(read(self.section, "test"))
        self.backend = KubernetesBackend.from_settings(self.section, "test")

    def seed(self) -> None:
        """8 GPUs each on n0, n1, n2; on n0 a service `web` and a job `train` of 2 x 2 GPUs; and what the manifests install."""
        if not self._exists("/api/v1/namespaces/aiops"):
            self.rest.create("/api/v1/namespaces", {"metadata": {"name": "aiops"}})
        for name, value, policy in CLASSES:
            body = {"metadata": {"name": name}, "value": value, "preemptionPolicy": policy}
            self.rest.create("/apis/scheduling.k8s.io/v1/priorityclasses", body)
        self.add_node("n0")
        self.rest.create(DEPLOYMENTS, deployment())
        self.rest.create(JOBS, job(pods=2))
        self.running()
        self.until(lambda c: bool(c.services and c.services[0].ready))
        for name in ("n1", "n2"):
            self.add_node(name)

    def add_node(self, name: str) -> None:
        body = node(name, **{"aiops.io/pool": "default", "kubernetes.io/hostname": name})
        body["status"]["capacity"]["pods"] = "110"
        self.rest.create(NODES, body)
        self.rest.patch(f"{NODES}/{name}/status", {"status": body["status"]})

    def now(self) -> float:
        return SystemClock().now()

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        return self.soon(lambda: seen if holds(seen := self.backend.observe(self.now())) else None)

    def soon(self, look: Callable[[], Any]) -> Any:
        """What `look` gives once it is anything; fails after 60 s: a Job waits 10, then 20 s before it replaces lost pods."""
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"not within 60 s: {self.backend.observe(self.now()).jobs}")

    def running(self, id: str = "default/train") -> Job:
        seen = self.until(lambda c: any(row.id == id and row.state is JobState.RUNNING for row in c.jobs))
        return next(row for row in seen.jobs if row.id == id)

    def proven(self, found: Job, id: str = "c1", age_s: float = 5.0) -> None:
        proof = {"id": id, "run_id": found.run_id, "at": self.now() - age_s, "verified": True, "step": 100}
        notes = {"metadata": {"annotations": {"aiops.io/checkpoint": orjson.dumps(proof).decode()}}}
        self.rest.patch(f"{JOBS}/{found.name}", notes)

    def placeholders(self) -> list[Object]:
        """Those that are neither finished nor going."""
        rows = self.rest.get(PLACEHOLDERS)["items"]
        live = [row for row in rows if not row["metadata"].get("deletionTimestamp")]
        return [row for row in live if row["status"].get("phase") not in ("Failed", "Succeeded")]

    def placed(self) -> list[str]:
        """The nodes that placeholders are bound to."""
        return sorted(row["spec"]["nodeName"] for row in self.placeholders() if row["spec"].get("nodeName"))

    def restart(self, **section: Any) -> None:
        self.backend.close()
        self.section.update(section)
        self.backend = KubernetesBackend.from_settings(self.section, "test")

    def finish(self) -> None:
        self.backend.close()
        self.rest.close()

    def wipe(self) -> None:
        """Leave a shared server as it was found."""
        for path in (JOBS, DEPLOYMENTS, "/apis/policy/v1/namespaces/default/poddisruptionbudgets", PODS, PLACEHOLDERS, NODES):
            self._delete(path, {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
        self._delete(ACCOUNT, {})
        self._delete("/apis/scheduling.k8s.io/v1/priorityclasses/aiops-hold", {})
        self._delete("/apis/scheduling.k8s.io/v1/priorityclasses/aiops-headroom", {})
        self.soon(lambda: not self.rest.get(PODS)["items"] and not self.rest.get(PLACEHOLDERS)["items"])

    def _exists(self, path: str) -> bool:
        try:
            return bool(self.rest.get(path))
        except Refused as error:
            if error.code not in (404, 429):  # a custom resource that was declared just now: "storage is (re)initializing"
                raise
            return False

    def _delete(self, path: str, options: Object) -> None:
        try:
            self.rest._json("DELETE", path, None, options, "application/json")
        except Refused as error:
            if error.code != 404:
                raise


@contextmanager
def in_process(directory: Path) -> Iterator[ClusterStage]:
    with ApiServer() as server:
        stage = ClusterStage(server.kubeconfig(directory / "kubeconfig"))
        stage.server = server
        stage.seed()
        yield stage
        stage.finish()


@contextmanager
def real(server: RealApiServer, directory: Path) -> Iterator[ClusterStage]:
    """On a server that other tests share: as it was found before and after."""
    stage = ClusterStage(server.kubeconfig(directory / "kubeconfig"))
    with Kubelets(stage.backend.settings):
        stage.seed()
        try:
            yield stage
        finally:
            stage.backend.close()
            stage.wipe()
    stage.finish()
