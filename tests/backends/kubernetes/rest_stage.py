"""A stage that knows its API server by REST only, so that it fits a real one: it plays the controllers and kubelets itself."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes_stage import budget, deployment, job, node

from aiops.backends.kubernetes import KubernetesBackend
from aiops.backends.kubernetes.connection import Connection, Lost, Object
from aiops.backends.kubernetes.declare import read
from aiops.clock import SystemClock
from aiops.model import Cluster

_DEPLOYMENTS, _PODS = "/apis/apps/v1/namespaces/default/deployments", "/api/v1/namespaces/default/pods"
_READY = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]


def _lost(_: Object) -> Object:
    raise Lost("the answer was lost")


class RestStage:
    """Implements `aiops.testing.backend.Stage`; `stop` makes the server go away."""

    def __init__(self, kubeconfig: Path, stop: Callable[[], object]) -> None:
        self.section = {"kubeconfig": str(kubeconfig), "watch": 1.0}
        self.rest = Connection(read(self.section, "test"))
        self.blind = stop  # type: ignore[assignment]
        self.backend = KubernetesBackend.from_settings(self.section, "test")
        self._seed()

    def _seed(self) -> None:
        for name in ("n0", "n1"):
            body = node(name)
            self.rest.create("/api/v1/nodes", body)
            self.rest.patch(f"/api/v1/nodes/{name}/status", {"status": body["status"]})
        self.rest.create(_DEPLOYMENTS, deployment())
        made = self.rest.create("/apis/batch/v1/namespaces/default/jobs", job())
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": made["metadata"]["uid"], "controller": True}
        meta = {"name": "train-0", "labels": {"job-name": "train", "app": "train"}, "ownerReferences": [owner]}
        self.rest.create(_PODS, {"metadata": meta, "spec": {**made["spec"]["template"]["spec"], "nodeName": "n0"}})
        self.rest.patch(f"{_PODS}/train-0/status", {"status": {"phase": "Running", "conditions": _READY}})

    def settle(self) -> None:
        """As the deployment controller would: all wanted replicas are ready."""
        for row in self.rest.get(_DEPLOYMENTS)["items"]:
            count = row["spec"]["replicas"]
            if row.get("status", {}).get("readyReplicas", 0) != count:
                status = {"replicas": count, "readyReplicas": count, "availableReplicas": count}
                self.rest.patch(f"{_DEPLOYMENTS}/{row['metadata']['name']}/status", {"status": status})

    def now(self) -> float:
        return SystemClock().now()

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            self.settle()
            seen = self.backend.observe(self.now())
            if holds(seen):
                return seen
            time.sleep(0.02)
        raise AssertionError(f"not within 20 s: {seen.services} {seen.jobs}")

    def restart(self) -> None:
        self.backend.close()
        self.backend = KubernetesBackend.from_settings(self.section, "test")

    def lose_next_reply(self) -> None:
        self._between(lambda real, path, body: _lost(real(path, body)))

    def lie_next(self) -> None:
        """Something in between asks only what would happen, and passes that on as if it had."""
        self._between(lambda real, path, body: real(path, body, True))

    def halve_next(self) -> None:
        """A webhook or controller in between lets the mark through and undoes the rest at once."""
        self._between(lambda real, path, body: real(path, {"metadata": body["metadata"]}))

    def _between(self, strikes: Callable[[Any, str, Object], Object]) -> None:
        """The next write of the backend goes through `strikes`, those after it do not."""
        connection = self.backend._connected()
        real = connection.patch

        def patch(path: str, body: Object, dry_run: bool = False) -> Object:
            connection.patch = real  # type: ignore[method-assign]
            return strikes(real, path, body)

        connection.patch = patch  # type: ignore[method-assign]

    def recreate(self, service: str) -> None:
        name = service.rpartition("/")[2]
        self.rest._json("DELETE", f"{_DEPLOYMENTS}/{name}", None)
        self.rest.create(_DEPLOYMENTS, deployment(name))

    def effects(self) -> tuple[str, ...]:
        """What the objects themselves say was done to them, oldest first."""
        rows: list[Any] = []
        for path in (_DEPLOYMENTS, "/api/v1/nodes", "/apis/batch/v1/namespaces/default/jobs"):
            rows += [row["metadata"].get("annotations", {}) for row in self.rest.get(path)["items"]]
        return tuple(id for row in rows for id in reversed(row.get("aiops.io/last-actions", "").split()))

    def covered(self, allowed: int) -> None:
        """A budget over the training job that allows so many disruptions, as the disruption controller would say."""
        path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        made = self.rest.create(path, budget("keep", "train", minAvailable=1))
        status = {
            "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
            "observedGeneration": made["metadata"]["generation"],
        }  # fmt: skip
        self.rest.patch(f"{path}/keep/status", {"status": status})

    def finish(self) -> None:
        self.backend.close()
        self.rest.close()
