"""Moving a run: away from its nodes, towards the named ones, with a proof, within budgets; and never half."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import JOBS, ClusterStage, in_process
from kubernetes_stage import budget

from aiops.action import Effect, Migrate, Outcome, Resume
from aiops.backends.kubernetes.begun import Move
from aiops.backends.kubernetes.moving import elsewhere
from aiops.model import Job, JobState
from aiops.testing.backend import admit

_BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NAMES = ("n0", "n1", "n2")


def move(found: Job, checkpoint: str = "c1") -> Migrate:
    free = tuple(name for name in _NAMES if name not in found.nodes)
    return Migrate(
        job=found.id, run_id=found.run_id, on_nodes=found.nodes, to_nodes=free[:1], checkpoint=checkpoint, gpus=found.gpus
    )


def gathered(cluster: ClusterStage) -> Job:
    """The job's run, all of it on n0, with a proven checkpoint."""
    found = cluster.running()
    cluster.proven(found)
    return (
        cluster.until(lambda c: any(r.id == found.id and r.checkpoint and r.run_id == found.run_id for r in c.jobs)) and found
    )


def test_a_run_is_moved_to_the_named_node_as_another_run_of_the_same_job(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    uid = cluster.rest.get(f"{JOBS}/train")["metadata"]["uid"]
    wish = admit(move(found))
    assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
    receipt = cluster.backend.apply(wish, cluster.now())
    assert receipt.outcome is Outcome.DONE, receipt.detail
    seen = cluster.until(lambda c: any(r.state is JobState.RUNNING and r.run_id != found.run_id for r in c.jobs))
    assert seen.jobs[0].nodes == ("n1",) and seen.jobs[0].id == found.id
    after = cluster.rest.get(f"{JOBS}/train")
    assert after["metadata"]["uid"] == uid and not after["metadata"]["annotations"].get("aiops.io/moving")
    assert cluster.backend.probe(wish, cluster.now()) is Effect.PRESENT
    cluster.restart()
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.ALREADY
    assert cluster.running().run_id == seen.jobs[0].run_id


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"run_id": "another"}, "another run"),
        ({"checkpoint": ""}, "a move always needs a proof"),
        ({"checkpoint": "c9"}, "not the proof that is there"),
        ({"on_nodes": ("n2",)}, "it does not run there"),
        ({"gpus": 5}, "it does not have so many"),
        ({"to_nodes": ()}, "empty means nothing"),
        ({"to_nodes": ("n0",)}, "that is where it is"),
        ({"to_nodes": ("gone",)}, "no such node"),
    ],
)
def test_a_move_that_does_not_fit_the_world_has_no_effect(cluster: ClusterStage, change: dict[str, Any], why: str) -> None:
    found = gathered(cluster)
    receipt = cluster.backend.apply(admit(replace(move(found), **change)), cluster.now())
    assert receipt.outcome is Outcome.STALE, why
    assert cluster.running().run_id == found.run_id and not cluster.rest.get(f"{JOBS}/train")["spec"].get("suspend")


def test_a_move_costs_none_of_the_failures_that_a_job_may_have(cluster: ClusterStage) -> None:
    cluster.rest.patch(f"{JOBS}/train", {"spec": {"backoffLimit": 0}})
    found = gathered(cluster)
    assert cluster.backend.apply(admit(move(found)), cluster.now()).outcome is Outcome.DONE
    cluster.until(lambda c: any(r.state is JobState.RUNNING and r.run_id != found.run_id for r in c.jobs))
    assert not cluster.rest.get(f"{JOBS}/train")["status"].get("failed")


def test_a_budget_has_the_last_word(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    cluster.rest.create(_BUDGETS, budget("keep", "train", minAvailable=1))
    cluster.soon(lambda: (cluster.rest.get(f"{_BUDGETS}/keep").get("status") or {}).get("currentHealthy") == 2)
    receipt = cluster.backend.apply(admit(move(found)), cluster.now())
    assert receipt.outcome is Outcome.FAILED and "default/keep" in receipt.detail
    assert cluster.running().run_id == found.run_id


def test_without_room_on_the_named_node_nothing_moves(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    blocker = {"containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "7"}}}], "nodeName": "n1"}
    cluster.rest.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "blocker"}, "spec": blocker})
    receipt = cluster.backend.apply(admit(move(found)), cluster.now())
    assert receipt.outcome is Outcome.STALE and "free" in receipt.detail and cluster.running().run_id == found.run_id


def suspended(cluster: ClusterStage, found: Job) -> None:
    """The first half of a move `a1`; and here the daemon died."""
    job = cluster.rest.get(f"{JOBS}/train")
    begun = Move(id="a1", generation=job["metadata"]["generation"] + 1, on_nodes=("n0",), to_nodes=("n1",), gpus=found.gpus)
    meta = {"resourceVersion": job["metadata"]["resourceVersion"], "annotations": begun.mark()}
    cluster.rest.patch(f"{JOBS}/train", {"metadata": meta, "spec": {"suspend": True}})


def test_a_move_cut_off_in_the_middle_is_seen_and_may_be_resumed_by_a_person(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    suspended(cluster, found)
    held = cluster.until(lambda c: c.jobs[0].state is JobState.HELD).jobs[0]
    assert "in the middle of a move" in held.reason
    assert cluster.backend.probe(admit(move(found)), cluster.now()) is Effect.ABSENT
    receipt = cluster.backend.apply(admit(Resume(job=held.id, run_id=held.run_id), id="a2"), cluster.now())
    assert receipt.outcome is Outcome.DONE, receipt.detail
    assert cluster.running().reason == "" and cluster.backend.finish(cluster.now()) == ()
    assert "aiops.io/moving" not in cluster.rest.get(f"{JOBS}/train")["metadata"]["annotations"]


def test_the_same_move_sent_again_finishes_what_was_begun(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    suspended(cluster, found)
    assert cluster.backend.apply(admit(move(found)), cluster.now()).outcome is Outcome.DONE
    cluster.until(lambda c: any(r.state is JobState.RUNNING and r.nodes == ("n1",) for r in c.jobs))


def test_a_job_whose_status_lags_behind_its_pods_is_not_resumed_while_they_run(tmp_path: Path) -> None:
    """Seen on a real control plane: of a young Job the server would already take the change, and its pods would stay."""
    with in_process(tmp_path) as cluster:
        found = gathered(cluster)
        cluster.server.store.on_write = lambda: None  # the Job's controller is slow
        cluster.server.change("jobs", "train", {"status": {"active": None, "startTime": None}})
        cluster.restart(timeout=0.2)
        receipt = cluster.backend.apply(admit(move(found)), cluster.now())
        assert receipt.outcome is Outcome.UNKNOWN and "do not go" in receipt.detail
        assert cluster.rest.get(f"{JOBS}/train")["spec"]["suspend"] is True
        cluster.server.store.on_write = cluster.server.controllers.settle
        cluster.server.controllers.settle()
        assert cluster.backend.apply(admit(move(found)), cluster.now()).outcome is Outcome.DONE
        cluster.until(lambda c: any(r.state is JobState.RUNNING and r.nodes == ("n1",) for r in c.jobs))


def test_a_job_that_kueue_admits_is_left_to_kueue(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    cluster.rest.patch(f"{JOBS}/train", {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}}})
    receipt = cluster.backend.apply(admit(move(found)), cluster.now())
    assert receipt.outcome is Outcome.FAILED and "Kueue" in receipt.detail and cluster.running().run_id == found.run_id


def test_affinity_keeps_what_its_owner_asked_for_and_forgets_earlier_moves() -> None:
    wish = Migrate(job="j", run_id="r", on_nodes=("n1",), to_nodes=("n2",), checkpoint="c", gpus=1)
    own = {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h200"]}]}
    first = elsewhere({"podAffinity": {"x": 1}, "nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [own]}}}, wish)
    second = elsewhere(first, replace(wish, on_nodes=("n2",), to_nodes=("n3",)))
    term = second["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"]
    assert term == [{**own, "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n2"]}]}]
    assert second["podAffinity"] == {"x": 1}
    near = second["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [row["preference"]["matchFields"][0]["values"] for row in near] == [["n3"]]
