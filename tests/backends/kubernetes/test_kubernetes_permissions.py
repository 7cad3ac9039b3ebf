"""The manifests grant what the backend uses, and nothing that it must not have: no wildcard, no delete, no secrets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import in_process
from kubernetes_stage import KubernetesStage
from ruamel.yaml import YAML

from aiops.action import (
    Cordon,
    Drain,
    HoldCapacity,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    ReleaseHold,
    RequestCheckpoint,
    ScalePool,
)
from aiops.testing.backend import admit, scale
from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.resources import TABLE, target

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"


def documents(*names: str) -> list[dict[str, Any]]:
    return [row for name in names for row in YAML(typ="safe", pure=True).load_all((DEPLOY / name).read_text())]


def grants(*names: str, kinds: tuple[str, ...] = ("ClusterRole", "Role")) -> set[tuple[str, str, str]]:
    """Triples of API group, resource and verb."""
    rules = [rule for row in documents(*names) if row["kind"] in kinds for rule in row["rules"]]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[KubernetesStage]:
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        yield stage
        stage.finish()


def used(server: ApiServer) -> set[tuple[str, str, str]]:
    out = set()
    for row in server.requests:
        verb, _, path = row.partition(" ")
        found = target(path, TABLE)
        sub = f"/{found.subresource}" if found.subresource else ""
        out.add((found.resource.group, found.resource.plural + sub, verb))
    return out


def test_observing_needs_no_more_than_the_first_manifest(stage: KubernetesStage) -> None:
    stage.until(lambda _: ("", "pods", "watch") in used(stage.server))  # watches start beside the first look
    assert used(stage.server) <= grants("aiops.yaml")
    assert {verb for _, _, verb in grants("aiops.yaml")} == {"get", "list", "watch"}


def test_acting_needs_no_more_than_both(stage: KubernetesStage) -> None:
    seen = stage.until(lambda c: bool(c.jobs and c.jobs[0].nodes))
    job, node = seen.jobs[0], seen.nodes[0]
    wishes = [
        scale(seen.services[0], 2),
        RequestCheckpoint(job=job.id, run_id=job.run_id),
        Cordon(node=node.name, uid=node.uid, reason="test"),
        Drain(node=node.name, uid=node.uid, reason="test"),
    ]
    for turn, wish in enumerate(wishes):
        stage.backend.apply(admit(wish, id=f"a{turn}"), stage.now())
    asked = used(stage.server)
    assert ("", "pods/eviction", "create") in asked and ("", "nodes", "patch") in asked
    assert asked <= grants("aiops.yaml", "act.yaml")


def test_promises_and_moves_need_no_more_than_both(tmp_path: Path) -> None:
    with in_process(tmp_path) as cluster:
        job = cluster.running()
        cluster.proven(job)
        same = {"job": job.id, "run_id": job.run_id, "on_nodes": job.nodes, "checkpoint": "c1", "gpus": job.gpus}
        wishes = [
            HoldCapacity(hold="h", owner="o", nodes=("n1",), gpus=1, ttl_s=30.0, fence=1),
            ReleaseHold(hold="h", fence=1),
            LimitBandwidth(link="leaf", owner="o", bytes_per_s=1.0, was=None),
            ScalePool(pool="default", version="3", nodes=4, was=3),
            Migrate(to_nodes=("n2",), **same),
            Preempt(lost_gpu_s=0.0, **same),
        ]
        assert cluster.backend.announce("a", 1, cluster.now()) and cluster.backend.announce("b", 2, cluster.now())
        receipts = [cluster.backend.apply(admit(wish, id=f"a{i}"), cluster.now()) for i, wish in enumerate(wishes)]
        assert [row.outcome for row in receipts] == [Outcome.DONE] * 5 + [Outcome.STALE], receipts
        asked = used(cluster.server)
    own = {("", "namespaces", "create"), ("", "namespaces", "get"), ("", "nodes", "create"), ("", "nodes/status", "patch")}
    own |= {(g, r, "create") for g, r in _SEEDED}
    assert {("", "configmaps", "patch"), ("", "pods", "create")} <= asked
    assert asked - own <= grants("aiops.yaml", "act.yaml")


_SEEDED = (("scheduling.k8s.io", "priorityclasses"), ("apps", "deployments"), ("batch", "jobs"))
"""What the stage itself creates."""


def test_nothing_dangerous_is_granted() -> None:
    for group, resource, verb in grants("aiops.yaml", "act.yaml", "kueue.yaml", kinds=("ClusterRole",)):
        assert "*" not in group + resource + verb
        assert verb in {"get", "list", "watch", "patch"} or (resource, verb) == ("pods/eviction", "create")
        assert resource not in {"secrets", "pods/exec", "roles", "clusterroles"}
    for _, resource, verb in grants("aiops.yaml", "act.yaml", kinds=("Role",)):
        assert verb in {"get", "create", "patch"} and resource in {
            "configmaps",
            "podtemplates",
            "provisioningrequests",
            "pods",
            "leases",
        }  # in its own namespace, no delete


def test_the_daemon_runs_without_privileges() -> None:
    spec = next(row for row in documents("aiops.yaml") if row["kind"] == "Deployment")["spec"]["template"]["spec"]
    context = spec["containers"][0]["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True and context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]} and context["allowPrivilegeEscalation"] is False
