"""What the Kubernetes backend costs: observing 1,000 nodes and 10,000 pods, following changes, acting, and its memory.

Baselines in the same run: the official client's own typed list of the same pods (time and memory), which is what most
controllers in Python do each cycle; and for an action, a bare GET and PATCH of the same object, which is the server's own
time. The server is the in-process one of `aiops.testing`, in a process of its own so that it does not share this one's
interpreter lock or memory; its pods carry the fields that a kubelet and a scheduler write. This file is not called
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
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import orjson
import psutil
import urllib3
from rich.console import Console
from rich.table import Table

from aiops.action import Admission, Decision, Outcome, ScaleService
from aiops.backends.kubernetes import KubernetesBackend
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


def serve(pipe: Pipe, path: str, nodes: int, pods: int) -> None:
    """The server's process: build the cluster, serve, change a pod whenever told, end when told."""
    with ApiServer(controllers=False) as server:
        for i in range(nodes):
            server.create("nodes", node(i))
        for i in range(pods):
            server.create("pods", pod(i))
        marks = {"aiops.io/target": "10", "aiops.io/max-replicas": "1000"}
        template = {"spec": {"containers": []}}
        server.create(
            "deployments", {"metadata": {"name": "web", "annotations": marks}, "spec": {"replicas": 1, "template": template}}
        )
        server.kubeconfig(Path(path))
        pipe.send(server.url)
        while (word := pipe.recv()) != "end":
            for i in range(word):
                server.change("pods", f"job-{i // 8}-{i % 8}", {"metadata": {"labels": {"turn": str(time.monotonic())}}})
            pipe.send(len(server.requests))


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


def action_seconds(backend: KubernetesBackend, url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each scale action, and of a bare GET and PATCH of the same object."""
    ours, bare, pool = [], [], urllib3.PoolManager()
    headers = {"Authorization": f"Bearer {ApiServer.token}", "Content-Type": "application/merge-patch+json"}
    path = f"{url}/apis/apps/v1/namespaces/default/deployments/web"
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
        pool.request("GET", path, headers=headers)
        pool.request("PATCH", path, headers=headers, body=orjson.dumps({"metadata": {"labels": {"turn": str(i)}}}))
        bare.append(time.perf_counter() - started)
    return ours, bare


def measure(pipe: Pipe, path: Path, url: str, rounds: int) -> list[dict]:
    backend = KubernetesBackend.from_settings({"kubeconfig": str(path), "timeout": 30.0}, "bench")
    import kubernetes.client  # noqa: F401 - 60 MB and a second that belong to the start of a daemon, not to an observation

    first_s, first_mb, cluster = grown(lambda: backend.observe(NOW()))
    if len(cluster.nodes) != NODES or sum(len(n.gpus) for n in cluster.nodes) != 8 * NODES:
        raise SystemExit("an incomplete picture")
    observed = []
    for _ in range(rounds):
        pipe.send(100)
        pipe.recv()
        started = time.perf_counter()
        backend.observe(NOW())
        observed.append(time.perf_counter() - started)
    ours, bare = action_seconds(backend, url, rounds * 5)
    pipe.send(0)
    pipe.recv()
    backend.close()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        typed_s, typed_mb = pool.apply(typed_list, (path,))
    base = {f"typed list of {TYPED:,} of the pods": typed_s}
    extra = statistics.median(ours) - statistics.median(bare)
    return [
        row("first observation, lists included", first_s, "s", 2.0, base),
        row("observation with 100 changes since the last", statistics.median(observed), "s", 2.0, base),
        row("worst of these", max(observed), "s", 2.0, base),
        row("memory after the first observation", first_mb, "MB", 200.0, {f"typed list of {TYPED:,} of the pods": typed_mb}),
        row(
            "action beyond the server's own time",
            extra * 1e3,
            "ms",
            100.0,
            {"GET and PATCH alone": statistics.median(bare) * 1e3},
        ),
    ]


def row(figure: str, value: float, unit: str, goal: float, baseline: dict[str, float]) -> dict:
    return {"figure": figure, "value": value, "unit": unit, "goal": goal, "better": "lower", "baseline": baseline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kubeconfig"
        child = multiprocessing.get_context("spawn").Process(target=serve, args=(there, str(path), NODES, PODS), daemon=True)
        child.start()
        try:
            url = here.recv()
            rows = measure(here, path, url, 5 if args.quick else 20)
        finally:
            here.send("end")
            child.join(5)
            child.kill()
    table = Table(title=f"{NODES:,} nodes, {PODS:,} pods, {os.cpu_count()} cores")
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
