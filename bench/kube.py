"""What the Kubernetes backend costs: observing 1,000 nodes and 10,000 pods, following changes, acting, and its memory.

Baselines in the same run: the official client's own typed list of the same pods (time and memory), which is what most
controllers in Python do each cycle; and for an action, a bare GET and PATCH of the same object, which is the server's own
time. The server is the in-process one of `aiops.testing`, in a process of its own so that it does not share this one's
interpreter lock or memory; with `--real` a real kube-apiserver and etcd from the folder that KUBE_ASSETS names, which takes
minutes to fill. Pods carry the fields that a kubelet and a scheduler write. This file is not called
`kubernetes.py`, because that would hide the client of this name from every script in this folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from aiops.action import Admission, Decision, Outcome, ScaleService
from aiops.backends.kubernetes import KubernetesBackend
from aiops.backends.kubernetes.connection import Connection
from aiops.backends.kubernetes.declare import read
from aiops.clock import SystemClock
from aiops.testing.kubernetes import ApiServer

NOW = SystemClock().now
NODES, PODS, TYPED = 1000, 10_000, 1000


def node(i: int) -> dict:
    amount = {"nvidia.com/gpu": "8", "cpu": "128", "memory": "1Ti", "pods": "110"}
    images = [{"names": [f"registry.example/image-{j}@sha256:{j:064x}"], "sizeBytes": 10**9} for j in range(30)]
    conditions = [
        {"type": kind, "status": state, "message": "kubelet is fine", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
        for kind, state in (("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True"))
    ]
    labels = {"kubernetes.io/hostname": f"node-{i:04}", "nvidia.com/gpu.product": "H200", "aiops.io/pool": f"rack-{i // 32}"}
    status = {"capacity": amount, "allocatable": amount, "conditions": conditions, "images": images}
    return {"metadata": {"name": f"node-{i:04}", "labels": labels}, "spec": {"podCIDR": "10.0.0.0/24"}, "status": status}


def pod(i: int) -> dict:
    """About 5 kB, as a real pod of a training job with a sidecar, mounts, tolerations and managed fields."""
    mounts = [{"name": f"v{j}", "mountPath": f"/mnt/volume-{j}", "readOnly": True} for j in range(5)]
    container = {
        "name": "main", "image": "registry.example/train:1.2.3", "command": ["python", "train.py"], "volumeMounts": mounts,
        "env": [{"name": f"VARIABLE_{j}", "value": f"value-{j}"} for j in range(20)],
        "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "8", "memory": "64Gi"}},
    }  # fmt: skip
    fields = {"f:spec": {f"f:field-{j}": {"f:inner": {}} for j in range(30)}, "f:status": {"f:conditions": {}}}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": f"job-{i // 8}", "uid": f"job-uid-{i // 8}", "controller": True}
    at = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("PodScheduled", "Initialized", "Ready")
    ]
    return {
        "metadata": {
            "name": f"job-{i // 8}-{i % 8}", "labels": {"job-name": f"job-{i // 8}", "team": f"team-{i % 7}"},
            "annotations": {"example.com/note": "x" * 300}, "ownerReferences": [owner],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": fields} for _ in range(3)],
        },
        "spec": {
            "nodeName": f"node-{i % NODES:04}", "containers": [container, {**container, "name": "sidecar", "resources": {}}],
            "tolerations": [{"key": f"key-{j}", "operator": "Exists", "effect": "NoSchedule"} for j in range(4)],
            "volumes": [{"name": f"v{j}", "configMap": {"name": f"map-{j}"}} for j in range(5)],
        },
        "status": {"phase": "Running", "conditions": conditions, "podIP": "10.1.2.3", "startTime": at},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Served:
    """A server with the cluster in it: where it is, and how to change so many of its pods, as others would."""

    kubeconfig: Path
    change: Callable[[int], None]


WEB = {
    "metadata": {"name": "web", "annotations": {"aiops.io/target": "10", "aiops.io/max-replicas": "1000"}},
    "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web"}]}},
    },
}  # fmt: skip


def serve(pipe: Pipe, path: str, nodes: int, pods: int) -> None:
    """The in-process server's process: build the cluster, serve, change pods whenever told, end when told."""
    with ApiServer(controllers=False) as server:
        for i in range(nodes):
            server.create("nodes", node(i))
        for i in range(pods):
            server.create("pods", pod(i))
        server.create("deployments", WEB)
        server.kubeconfig(Path(path))
        pipe.send(server.url)
        while (word := pipe.recv()) != "end":
            for i in range(word):
                server.change("pods", f"job-{i // 8}-{i % 8}", {"metadata": {"labels": {"turn": str(time.monotonic())}}})
            pipe.send(len(server.requests))


@contextmanager
def in_process(directory: Path) -> Iterator[Served]:
    """The in-process server, filled."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    path = directory / "kubeconfig"
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(there, str(path), NODES, PODS), daemon=True)
    child.start()

    def change(count: int) -> None:
        here.send(count)
        here.recv()

    try:
        here.recv()
        yield Served(path, change)
    finally:
        here.send("end")
        child.join(5)
        child.kill()


@contextmanager
def real(directory: Path) -> Iterator[Served]:
    """A real API server and etcd, filled by REST."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "backends" / "kubernetes"))
    from real_control_plane import RealApiServer

    with RealApiServer(directory) as server:
        path = server.kubeconfig(directory / "kubeconfig")
        rest = Connection(read({"kubeconfig": str(path), "timeout": 30.0}, "bench"))
        pods, nodes = "/api/v1/namespaces/default/pods", "/api/v1/nodes"

        def put(where: str, body: dict) -> None:
            rest.create(where, body)
            rest.patch(f"{where}/{body['metadata']['name']}/status", {"status": body["status"]})

        def change(count: int) -> None:
            for i in range(count):
                rest.patch(f"{pods}/job-{i // 8}-{i % 8}", {"metadata": {"labels": {"turn": str(time.monotonic_ns())}}})

        with ThreadPoolExecutor(8) as many:
            list(many.map(lambda i: put(nodes, node(i)), range(NODES)))
            list(many.map(lambda i: put(pods, pod(i)), range(PODS)))
        rest.create("/apis/apps/v1/namespaces/default/deployments", WEB)
        yield Served(path, change)
        rest.close()


def grown(call) -> tuple[float, float, object]:
    """Seconds of a call, how many MB this process grew by, and the call's result, kept alive until measured."""
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    kept = call()
    return time.perf_counter() - started, (psutil.Process().memory_info().rss - before) / 1e6, kept


def typed_list(path: Path) -> tuple[float, float]:
    """Seconds and MB of the official client's typed objects of a tenth of the pods, in a process of its own."""
    from kubernetes import client, config

    found = config.new_client_from_config(str(path))
    seconds, mb, _ = grown(lambda: client.CoreV1Api(found).list_pod_for_all_namespaces(limit=TYPED).items)
    return seconds, mb


def action_seconds(backend: KubernetesBackend, path: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each scale action, and of a bare GET and PATCH of the same object by the same client."""
    ours, bare, rest = [], [], Connection(read({"kubeconfig": str(path)}, "bench"))
    web = "/apis/apps/v1/namespaces/default/deployments/web"
    for i in range(rounds):
        seen = backend.observe(NOW()).services[0]
        action = ScaleService(service=seen.name, uid=seen.uid, version=seen.version, replicas=2 + i % 50, was=seen.replicas)
        wish = Admission(id=f"bench-{i}", at=NOW(), decision=Decision(policy="bench", action=action, reason=""))
        started = time.perf_counter()
        outcome = backend.apply(wish, NOW()).outcome
        ours.append(time.perf_counter() - started)
        if outcome is not Outcome.DONE:
            raise SystemExit(f"an action was {outcome}")
        started = time.perf_counter()
        rest.get(web)
        rest.patch(web, {"metadata": {"labels": {"turn": str(i)}}})
        bare.append(time.perf_counter() - started)
    rest.close()
    return ours, bare


def measure(served: Served, rounds: int) -> list[dict]:
    path = served.kubeconfig
    backend = KubernetesBackend.from_settings({"kubeconfig": str(path), "timeout": 30.0}, "bench")
    import kubernetes.client  # noqa: F401 - 60 MB and a second that belong to the start of a daemon, not to an observation

    cpu = time.process_time()
    first_s, first_mb, cluster = grown(lambda: backend.observe(NOW()))
    first_cpu_s = time.process_time() - cpu
    if len(cluster.nodes) != NODES or sum(len(n.gpus) for n in cluster.nodes) != 8 * NODES:
        raise SystemExit("an incomplete picture")
    observed = []
    for _ in range(rounds):
        served.change(100)
        started = time.perf_counter()
        backend.observe(NOW())
        observed.append(time.perf_counter() - started)
    ours, bare = action_seconds(backend, path, rounds * 5)
    watched_mb = psutil.Process().memory_info().rss / 1e6
    backend.close()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        typed_s, typed_mb = pool.apply(typed_list, (path,))
    base = {f"typed list of {TYPED:,} of the pods": typed_s}
    extra = statistics.median(ours) - statistics.median(bare)
    return [
        row("first observation, lists included", first_s, "s", 2.0, base),
        row("its own CPU time", first_cpu_s, "s", 2.0, base),
        row("observation with 100 changes since the last", statistics.median(observed), "s", 2.0, base),
        row("worst of these", max(observed), "s", 2.0, base),
        row("memory after the first observation", first_mb, "MB", 200.0, {f"typed list of {TYPED:,} of the pods": typed_mb}),
        row("the whole process, client included, in the end", watched_mb, "MB", 400.0, {}),
        row(
            "action beyond the server's own time", extra * 1e3, "ms", 100.0,
            {"GET and PATCH alone": statistics.median(bare) * 1e3},
        ),
    ]  # fmt: skip


def row(figure: str, value: float, unit: str, goal: float, baseline: dict[str, float]) -> dict:
    return {"figure": figure, "value": value, "unit": unit, "goal": goal, "better": "lower", "baseline": baseline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--real", action="store_true", help="a real API server and etcd, from the folder KUBE_ASSETS")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, (real if args.real else in_process)(Path(directory)) as served:
        rows = measure(served, 5 if args.quick else 20)
    table = Table(
        title=f"{'real' if args.real else 'in-process'} API server, {NODES:,} nodes, {PODS:,} pods, {os.cpu_count()} cores"
    )
    for name in ("figure", "value", "goal", "baseline"):
        table.add_column(name)
    for one in rows:
        base = ", ".join(f"{name} {value:.3g}" for name, value in one["baseline"].items())
        missed = "" if one["value"] <= one["goal"] else "  MISS"
        table.add_row(one["figure"], f"{one['value']:.3g} {one['unit']}{missed}", f"<= {one['goal']:g}", base)
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
