"""What an API server does to its clients: 403, 404, 409, 410, 429, time-outs, lost replies; and people who get there first."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes_stage import KubernetesStage, deployment

from aiops.action import Cordon, Effect, Outcome
from aiops.errors import ConfigError, Unreadable
from aiops.model import NodeState
from aiops.plugins import load
from aiops.testing.backend import admit, scale
from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.status import Refused


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[KubernetesStage]:
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        yield stage
        stage.finish()


def test_a_missing_permission_is_named_and_no_part_of_a_picture_is_given(stage: KubernetesStage) -> None:
    stage.server.faults.forbidden.add(("list", "pods"))
    with pytest.raises(Unreadable, match=r"403 Forbidden.*pods"):
        stage.observe()


def test_a_forbidden_write_fails_and_nothing_else_is_tried(stage: KubernetesStage) -> None:
    stage.server.faults.forbidden.add(("patch", "deployments"))
    receipt = stage.backend.apply(admit(scale(stage.observe().services[0], 2)), stage.now())
    assert receipt.outcome is Outcome.FAILED and "403" in receipt.detail and stage.effects() == ()


def test_too_many_requests_is_a_failure_without_effect_and_may_be_tried_again(stage: KubernetesStage) -> None:
    wish = admit(scale(stage.observe().services[0], 2))
    stage.server.faults.refuse = lambda verb, path: Refused(429, "TooManyRequests", "busy") if verb == "patch" else None
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.FAILED
    stage.server.faults.refuse = lambda verb, path: None
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.DONE and stage.effects() == ("a1",)


@pytest.mark.parametrize("code", [500, 502, 504])
def test_an_error_that_may_hide_an_effect_is_unknown(stage: KubernetesStage, code: int) -> None:
    wish = admit(scale(stage.observe().services[0], 2))
    stage.server.faults.refuse = lambda verb, path: Refused(code, "", "bad gateway") if verb == "patch" else None
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.UNKNOWN
    stage.server.faults.refuse = lambda verb, path: None
    assert stage.backend.probe(wish, stage.now()) is Effect.ABSENT


def test_somebody_faster_between_our_read_and_our_write_makes_it_stale(stage: KubernetesStage) -> None:
    wish = admit(scale(stage.observe().services[0], 2))

    def rival(verb: str, path: str) -> Refused | None:
        if verb == "patch":
            stage.server.faults.refuse = lambda verb, path: None
            stage.server.change("deployments", "web", {"metadata": {"labels": {"touched": "yes"}}})
        return None

    stage.server.faults.refuse = rival
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.STALE and stage.effects() == ()


def test_a_status_update_between_look_and_act_does_not_make_it_stale(stage: KubernetesStage) -> None:
    wish = admit(scale(stage.observe().services[0], 2))
    stage.server.change("deployments", "web", {"status": {"conditions": [{"type": "Progressing", "status": "True"}]}})
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.DONE


def test_a_late_write_that_was_given_up_cannot_undo_the_next_one(stage: KubernetesStage) -> None:
    """The lost request's body arrives after another action: its version is old, so the server refuses it."""
    service = stage.observe().services[0]
    found = stage.server.store.get(stage.server.resource("deployments"), "default", "web")
    late = {"metadata": {key: found["metadata"][key] for key in ("uid", "resourceVersion")}, "spec": {"replicas": 4}}
    assert stage.backend.apply(admit(scale(service, 2)), stage.now()).outcome is Outcome.DONE
    with pytest.raises(Refused, match="modified"):
        stage.server.change("deployments", "web", late)
    assert stage.until(lambda c: c.services[0].ready == 2).services[0].replicas == 2


def test_after_410_gone_there_is_a_new_list_and_nothing_is_missed(stage: KubernetesStage) -> None:
    stage.observe()
    inventory = stage.backend._inventory
    assert inventory is not None
    before = inventory.lists
    stage.server.faults.refuse = lambda verb, path: Refused(503, "ServiceUnavailable", "") if verb == "watch" else None
    stage.server.drop_watches()
    stage.server.create("deployments", deployment("late"))
    stage.server.delete("deployments", "web")
    stage.server.store.forget()
    stage.server.faults.refuse = lambda verb, path: None
    seen = stage.until(lambda c: [row.name for row in c.services] == ["default/deployments/late"])
    assert len(seen.services) == 1 and inventory.lists > before


def test_dropped_watches_resume_without_a_new_list(stage: KubernetesStage) -> None:
    stage.observe()
    inventory = stage.backend._inventory
    assert inventory is not None
    before = inventory.lists
    for replicas in (2, 3, 1):
        stage.server.drop_watches()
        stage.server.change("deployments", "web", {"spec": {"replicas": replicas}})
        stage.until(lambda c, n=replicas: c.services[0].ready == n)
    assert inventory.lists == before


def test_a_picture_that_cannot_be_kept_current_is_refused_when_it_is_too_old(tmp_path: Path) -> None:
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        stage.backend = type(stage.backend).from_settings({**stage.section, "max_age": 0.3}, "test")
        stage.observe()
        server.faults.refuse = lambda verb, path: Refused(503, "ServiceUnavailable", "") if verb == "watch" else None
        server.drop_watches()
        time.sleep(0.4)
        with pytest.raises(Unreadable, match="503"):
            stage.observe()
        stage.finish()


def test_an_own_write_is_in_the_next_picture(stage: KubernetesStage) -> None:
    for turn in range(5):
        service = stage.until(lambda c: c.services[0].ready == c.services[0].replicas).services[0]
        wanted = 2 if service.replicas != 2 else 3
        assert stage.backend.apply(admit(scale(service, wanted), id=f"t{turn}"), stage.now()).outcome is Outcome.DONE
        assert stage.observe().services[0].replicas == wanted


def test_a_picture_without_an_own_write_is_refused(stage: KubernetesStage) -> None:
    stage.restart(timeout=0.5)
    service = stage.observe().services[0]
    stage.server.faults.refuse = lambda verb, path: Refused(503, "ServiceUnavailable", "") if verb == "watch" else None
    stage.server.drop_watches()
    assert stage.backend.apply(admit(scale(service, 2)), stage.now()).outcome is Outcome.DONE
    with pytest.raises(Unreadable, match="deployments"):
        stage.observe()
    stage.server.faults.refuse = lambda verb, path: None
    assert stage.until(lambda c: True).services[0].replicas == 2


def test_a_replica_of_a_leader_worker_set_counts_all_its_pods(stage: KubernetesStage) -> None:
    body = deployment("llm")
    body["spec"]["leaderWorkerTemplate"] = {"size": 4, "workerTemplate": body["spec"].pop("template")}
    stage.server.create("leaderworkersets", body)
    seen = stage.until(lambda c: len(c.services) == 2)
    assert {row.name: row.gpus_per_replica for row in seen.services}["default/leaderworkersets/llm"] == 4


def test_a_service_that_an_autoscaler_scales_is_left_alone(stage: KubernetesStage) -> None:
    body = {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}
    stage.server.create("horizontalpodautoscalers", body)
    seen = stage.until(lambda c: c.services[0].protected)
    assert "HorizontalPodAutoscaler hpa" in seen.services[0].reason


@pytest.mark.parametrize(
    "marks",
    [{"max-replicas": "many"}, {"target": "nan"}, {"target": "0"}, {"min-replicas": "9"}, {"load": "not a series{"}],
)
def test_wrong_annotations_pin_a_service_where_it_is(stage: KubernetesStage, marks: dict[str, str]) -> None:
    stage.server.create("deployments", deployment("odd", **marks))
    seen = stage.until(lambda c: len(c.services) == 2)
    odd = next(row for row in seen.services if row.name.endswith("/odd"))
    assert (odd.min_replicas, odd.max_replicas, odd.protected) == (1, 1, True) and "annotations" in odd.reason
    assert stage.backend.apply(admit(scale(odd, 2)), stage.now()).outcome is Outcome.FAILED


def test_replicas_outside_of_the_owners_bounds_are_refused(stage: KubernetesStage) -> None:
    assert stage.backend.apply(admit(scale(stage.observe().services[0], 5)), stage.now()).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "name", ["", "default", "default/deployments", "default/pods/web", "default/deployments/a/b", "../../x"]
)
def test_a_name_that_names_no_object_is_stale(stage: KubernetesStage, name: str) -> None:
    wish = replace(scale(stage.observe().services[0], 2), service=name)
    assert stage.backend.apply(admit(wish), stage.now()).outcome is Outcome.STALE and not stage.server.log


def test_a_node_that_is_not_ready_or_lost_a_gpu_says_so(stage: KubernetesStage) -> None:
    lost = {"allocatable": {"nvidia.com/gpu": "7"}}
    stage.server.change("nodes", "n0", {"status": lost})
    down = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
    stage.server.change("nodes", "n1", {"status": {"conditions": [down]}})
    seen = {row.name: row for row in stage.until(lambda c: c.nodes[1].state is NodeState.DOWN).nodes}
    assert sum(gpu.healthy for gpu in seen["n0"].gpus) == 7 and len(seen["n0"].gpus) == 8
    assert "Kubelet stopped" in seen["n1"].reason


def test_an_unreachable_server_has_no_effect_and_says_failed(stage: KubernetesStage) -> None:
    node = stage.observe().nodes[0]
    stage.server.__exit__()
    receipt = stage.backend.apply(admit(Cordon(node=node.name, uid=node.uid, reason="x")), stage.now())
    assert receipt.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
    with pytest.raises(Unreadable):
        stage.observe()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"kubeconfig": "/nowhere"}, "kubeconfig"),
        ({"scalables": ["deployments"]}, "scalables"),
        ({"speed": 1}, "speed"),
        ({"links": {"fabric": {"capacity": -1}}}, "capacity"),
    ],
)
def test_a_wrong_section_is_one_clear_line(section: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load("backends", "kubernetes", section)
