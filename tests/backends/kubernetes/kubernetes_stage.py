"""A Kubernetes backend over an in-process API server with two nodes, a service and a training job."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiops.backends.kubernetes import KubernetesBackend
from aiops.clock import SystemClock
from aiops.errors import Unreadable
from aiops.model import Cluster, Job
from aiops.testing.kubernetes import ApiServer

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int = 8, **labels: str) -> dict[str, Any]:
    amount = {GPU: str(gpus), "cpu": "64", "memory": "512Gi"}
    status = {"capacity": amount, "allocatable": amount, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


def pod_template(gpus: int, **labels: str) -> dict[str, Any]:
    container = {"name": "main", "image": "example", "resources": {"limits": {GPU: str(gpus)}}}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def deployment(name: str = "web", replicas: int = 1, **marks: str) -> dict[str, Any]:
    notes = {"target": "10", "min-replicas": "1", "max-replicas": "4", **marks}
    return {
        "metadata": {"name": name, "annotations": {f"aiops.io/{key}": value for key, value in notes.items()}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod_template(1, app=name)},
    }


def job(name: str = "train", pods: int = 1, gpus: int = 2, **spec: Any) -> dict[str, Any]:
    template = pod_template(gpus, app=name)
    template["spec"]["restartPolicy"] = "Never"
    return {"metadata": {"name": name}, "spec": {"parallelism": pods, "completions": pods, "template": template, **spec}}


def budget(name: str, app: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": app}}, **spec}}


class KubernetesStage:
    """Implements `aiops.testing.backend.Stage`."""

    def __init__(self, server: ApiServer, directory: Path, **section: Any) -> None:
        self.server = server
        self.section = {"kubeconfig": str(server.kubeconfig(directory / "kubeconfig")), "timeout": 5.0, "watch": 1.0, **section}
        self.backend = self._new()

    @classmethod
    def small(cls, server: ApiServer, directory: Path) -> "KubernetesStage":
        for name in ("n0", "n1"):
            server.create("nodes", node(name))
        server.create("deployments", deployment())
        server.create("jobs", job())
        return cls(server, directory)

    def _new(self) -> KubernetesBackend:
        return KubernetesBackend.from_settings(self.section, "test")

    def now(self) -> float:
        return SystemClock().now()

    def observe(self) -> Cluster:
        return self.backend.observe(self.now())

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        """The first look for which it holds; one over a connection that broke is none, and the daemon, too, looks again."""
        deadline, seen = time.monotonic() + 10.0, None
        while time.monotonic() < deadline:
            with suppress(Unreadable):
                seen = self.observe()
                if holds(seen):
                    return seen
            time.sleep(0.01)
        raise AssertionError(f"not within 10 s: {seen}")

    def job(self, id: str = "default/train") -> Job:
        return next(row for row in self.observe().jobs if row.id == id)

    def restart(self, **section: Any) -> None:
        self.backend.close()
        self.section.update(section)
        self.backend = self._new()

    def lose_next_reply(self) -> None:
        self._once("lose_reply_of")

    def lie_next(self) -> None:
        self._once("lies_about")

    def halve_next(self) -> None:
        self._once("halves")

    def _once(self, fault: str) -> None:
        """The next write is struck by a fault of the server."""

        def strikes(verb: str, path: str) -> bool:
            if verb not in ("patch", "create"):
                return False
            setattr(self.server.faults, fault, lambda verb, path: False)
            return True

        setattr(self.server.faults, fault, strikes)

    def recreate(self, service: str) -> None:
        name = service.rpartition("/")[2]
        self.server.delete("deployments", name)
        self.server.create("deployments", deployment(name))

    def blind(self) -> None:
        self.server.faults.blind = True

    def effects(self) -> tuple[str, ...]:
        """The newest id in `last-actions` of every write that took effect, from the server's own log."""
        rows = [
            write.body.get("metadata", {}).get("annotations", {}).get("aiops.io/last-actions", "") for write in self.server.log
        ]
        return tuple(row.split()[0] for row in rows if row)

    def finish(self) -> None:
        self.backend.close()
