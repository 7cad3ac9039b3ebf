"""Objects whose replicas are behind the scale subresource: three writes instead of one, and still at most one effect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import DEPLOYMENTS, ClusterStage
from kubernetes_stage import KubernetesStage

from aiops.action import Effect, Outcome
from aiops.errors import Unreadable
from aiops.model import Service
from aiops.testing.backend import admit, scale
from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.status import Refused

_KIND = "kubeflow.org/v1/pytorchjobs"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[KubernetesStage]:
    with ApiServer() as server:
        notes = {"aiops.io/target": "10", "aiops.io/max-replicas": "8"}
        spec = {"pytorchReplicaSpecs": {"Worker": {"replicas": 2, "template": {}}, "Master": {"replicas": 1}}}
        body: dict[str, Any] = {"metadata": {"name": "llm", "annotations": notes}, "spec": spec, "status": {"replicas": 2}}
        server.create("pytorchjobs", body)
        stage = KubernetesStage(server, tmp_path, scalables=[f"{_KIND}/scale"])
        yield stage
        stage.finish()


def seen(stage: KubernetesStage) -> Service:
    return stage.observe().services[0]


def workers(stage: KubernetesStage) -> int:
    found = stage.server.store.get(stage.server.resource("pytorchjobs"), "default", "llm")
    return int(found["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])


def test_replicas_are_read_and_set_where_only_the_server_knows_them(stage: KubernetesStage) -> None:
    service = seen(stage)
    assert (service.name, service.replicas, service.ready) == ("default/pytorchjobs/llm", 2, 2)
    wish = admit(scale(service, 4))
    assert stage.backend.probe(wish, stage.now()) is Effect.ABSENT
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.DONE
    assert workers(stage) == 4 and seen(stage).replicas == 4
    assert stage.backend.probe(wish, stage.now()) is Effect.PRESENT
    stage.restart()
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.ALREADY
    assert stage.backend.apply(admit(scale(service, 3), id="a2"), stage.now()).outcome is Outcome.STALE and workers(stage) == 4


@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_reply_lost_after_any_of_the_three_writes_is_told_apart_and_finished_once(stage: KubernetesStage, write: int) -> None:
    wish, count = admit(scale(seen(stage), 4)), [0]

    def lost(verb: str, path: str) -> bool:
        count[0] += verb == "patch"
        return verb == "patch" and count[0] == write

    stage.server.faults.lose_reply_of = lost
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.UNKNOWN
    stage.server.faults.lose_reply_of = lambda verb, path: False
    stage.restart()
    happened = write >= 2
    assert workers(stage) == (4 if happened else 2)
    assert stage.backend.probe(wish, stage.now()) is (Effect.PRESENT if happened else Effect.ABSENT)
    assert stage.backend.apply(wish, stage.now()).outcome is (Outcome.ALREADY if happened else Outcome.DONE)
    assert workers(stage) == 4
    assert [row.path for row in stage.server.log if row.path.endswith("/scale")] == [
        "/apis/kubeflow.org/v1/namespaces/default/pytorchjobs/llm/scale"
    ]


def test_somebody_faster_between_the_writes_makes_it_stale(stage: KubernetesStage) -> None:
    wish = admit(scale(seen(stage), 4))

    def rival(verb: str, path: str) -> Refused | None:
        if path.endswith("/scale") and verb == "patch":
            stage.server.faults.refuse = lambda verb, path: None
            patch = {"spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 7}}}}
            stage.server.change("pytorchjobs", "llm", patch)
        return None

    stage.server.faults.refuse = rival
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.STALE and workers(stage) == 7


def test_a_change_between_the_mark_and_the_look_at_it_is_not_overwritten(stage: KubernetesStage) -> None:
    wish, marked = admit(scale(seen(stage), 4)), []

    def rival(verb: str, path: str) -> Refused | None:
        if marked and verb == "get":
            stage.server.faults.refuse = lambda verb, path: None
            patch = {"spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 7}}}}
            stage.server.change("pytorchjobs", "llm", patch)
        marked.extend([verb] if verb == "patch" else [])
        return None

    stage.server.faults.refuse = rival
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.STALE and workers(stage) == 7


def test_a_deployment_is_scaled_through_its_subresource_too(cluster: ClusterStage) -> None:
    """Of a Deployment the mark that begins the action is a change already: found on a real server."""
    cluster.restart(scalables=["apps/v1/deployments/scale"])
    service = cluster.until(lambda c: bool(c.services)).services[0]
    wish = admit(scale(service, 2))
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.DONE
    assert cluster.until(lambda c: c.services[0].ready == 2).services[0].replicas == 2
    assert cluster.backend.probe(wish, cluster.now()) is Effect.PRESENT
    cluster.restart()
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.ALREADY
    assert cluster.backend.apply(admit(scale(service, 3), id="a2"), cluster.now()).outcome is Outcome.STALE


def test_a_service_tells_the_nodes_that_its_replicas_are_on(cluster: ClusterStage) -> None:
    assert cluster.until(lambda c: bool(c.services)).services[0].nodes == ("n0",)
    cluster.rest.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 12}})  # n0 has 3 GPUs left beside the job
    # The Deployment and its pods are two watches: either may be ahead.
    seen = cluster.until(lambda c: c.services[0].ready == 12 and len(c.services[0].nodes) > 1).services[0]
    assert set(seen.nodes) <= {"n0", "n1", "n2"}


def test_a_mark_without_its_change_is_no_effect(cluster: ClusterStage) -> None:
    service = cluster.until(lambda c: bool(c.services)).services[0]
    cluster.rest.patch(f"{DEPLOYMENTS}/web", {"metadata": {"annotations": {"aiops.io/last-actions": "a1"}}})
    wish = admit(scale(service, 2))
    assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.FAILED


def test_an_unreadable_scale_makes_the_picture_unreadable(stage: KubernetesStage) -> None:
    stage.server.faults.forbidden.add(("get", "pytorchjobs/scale"))
    with pytest.raises(Unreadable, match="llm"):
        seen(stage)
