"""Kueue's Workloads in whichever version the server serves: asked for, fallen back from, and followed in an upgrade."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import JOBS, ClusterStage
from crds import workload
from kubernetes_stage import KubernetesStage

from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.resources import TABLE, Resource
from aiops.testing.kubernetes.status import Refused

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRDS}/workloads.kueue.x-k8s.io"


def serving(*versions: str) -> tuple[Resource, ...]:
    """The table of a server with Kueue of these versions."""
    kueue = next(row for row in TABLE if row.plural == "workloads")
    return (*(row for row in TABLE if row is not kueue), *(replace(kueue, version=version) for version in versions))


def of(uid: str, priority: int) -> dict[str, Any]:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": uid, "controller": True}
    return {"metadata": {"name": "job-train", "ownerReferences": [owner]}, "spec": {"priority": priority}}


def queued(body: dict[str, Any]) -> dict[str, Any]:
    body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    return body


@contextmanager
def staged(directory: Path, *versions: str) -> Iterator[KubernetesStage]:
    with ApiServer(serving(*versions)) as server:
        stage = KubernetesStage.small(server, directory)
        made = server.change("jobs", "train", queued({"metadata": {}}))
        if versions:
            server.create("workloads", of(made["metadata"]["uid"], 7))
        yield stage
        stage.finish()


def asked(stage: KubernetesStage) -> set[str]:
    """Versions of Kueue's group that were listed or watched."""
    rows = (row.partition(" ")[2].split("/") for row in stage.server.requests)
    return {parts[3] for parts in rows if parts[2] == "kueue.x-k8s.io"}


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2", "v1"])
def test_the_only_version_that_is_served_is_read(tmp_path: Path, version: str) -> None:
    with staged(tmp_path, version) as stage:
        stage.until(lambda c: any(row.priority == 7 for row in c.jobs))
        assert asked(stage) == {version}


def test_without_kueue_its_workloads_are_none_and_nothing_is_unreadable(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        assert stage.until(lambda c: bool(c.jobs)).jobs[0].priority == 0


def test_a_server_that_does_not_tell_its_versions_is_asked_for_the_newest_known(tmp_path: Path) -> None:
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        made = server.change("jobs", "train", queued({"metadata": {}}))
        server.create("workloads", of(made["metadata"]["uid"], 7))
        server.faults.undiscoverable = True
        stage.until(lambda c: any(row.priority == 7 for row in c.jobs))
        assert asked(stage) == {"v1beta2"}
        stage.finish()


def test_a_server_that_cannot_tell_now_is_unreadable_not_without_kueue(tmp_path: Path) -> None:
    with staged(tmp_path, "v1beta2") as stage:
        stage.server.faults.refuse = lambda verb, path: Refused(503, "ServiceUnavailable", "") if "kueue" in path else None
        stage.restart(timeout=0.5)
        with pytest.raises(Exception, match="kueue"):
            stage.observe()
        stage.server.faults.refuse = lambda verb, path: None
        stage.until(lambda c: any(row.priority == 7 for row in c.jobs))


def test_an_upgrade_under_a_running_daemon_is_followed(cluster: ClusterStage) -> None:
    """v1beta1 is served no more: what would answer 404, as for a Kueue that was taken away, is looked for under v1beta2."""
    made = cluster.rest.patch(f"{JOBS}/train", queued({"metadata": {}}))
    uid = made["metadata"]["uid"]
    if hasattr(cluster, "server"):
        cluster.server.table = serving("v1beta1")
    else:
        cluster.rest.create(CRDS, workload(v1beta1=True, v1beta2=False))
    path = "/apis/kueue.x-k8s.io/{}/namespaces/default/workloads"
    cluster.soon(lambda: cluster._exists(path.format("v1beta1")))
    cluster.restart()
    cluster.rest.create(path.format("v1beta1"), {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Workload", **of(uid, 7)})
    cluster.until(lambda c: any(row.priority == 7 for row in c.jobs))
    if hasattr(cluster, "server"):
        cluster.server.table = serving("v1beta2")
        cluster.server.drop_watches()
    else:
        cluster.rest.patch(CRD, {"spec": workload(v1beta1=False, v1beta2=True)["spec"]})
    cluster.soon(lambda: cluster._exists(path.format("v1beta2")))
    cluster.soon(lambda: cluster.rest.patch(f"{path.format('v1beta2')}/job-train", {"spec": {"priority": 9}}))
    cluster.until(lambda c: any(row.priority == 9 for row in c.jobs))
    cluster._delete(CRD, {})
