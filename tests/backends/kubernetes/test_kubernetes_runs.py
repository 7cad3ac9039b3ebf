"""Jobs on Kubernetes: what a run is, when it may be stopped, and that budgets and owners have the last word."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubernetes_stage import KubernetesStage, budget, deployment, job, node

from aiops.action import Drain, Effect, Outcome, Preempt, RequestCheckpoint, Resume
from aiops.model import Job, JobState, NodeState
from aiops.testing.backend import admit
from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.status import Refused


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[KubernetesStage]:
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        yield stage
        stage.finish()


def running(stage: KubernetesStage, id: str = "default/train") -> Job:
    seen = stage.until(lambda c: any(row.id == id and row.state is JobState.RUNNING for row in c.jobs))
    return next(row for row in seen.jobs if row.id == id)


def proven(stage: KubernetesStage, found: Job, id: str = "c1", **changes: Any) -> None:
    """The job's own side says that a checkpoint is complete."""
    proof = {"id": id, "run_id": found.run_id, "at": stage.now() - 5.0, "verified": True, "step": 100, **changes}
    stage.server.change(
        "jobs", found.name, {"metadata": {"annotations": {"aiops.io/checkpoint": orjson.dumps(proof).decode()}}}
    )


def preempt(found: Job, checkpoint: str = "c1") -> Preempt:
    return Preempt(
        job=found.id, run_id=found.run_id, on_nodes=found.nodes, checkpoint=checkpoint, gpus=found.gpus, lost_gpu_s=0.0
    )


def pods(stage: KubernetesStage, app: str) -> list[str]:
    rows = stage.server.store.all(stage.server.resource("pods"))
    return [row["metadata"]["uid"] for row in rows if row["metadata"]["labels"].get("app") == app]


def test_a_run_with_a_proven_checkpoint_is_evicted_and_comes_back_as_another_run(stage: KubernetesStage) -> None:
    found = running(stage)
    proven(stage, found)
    stage.until(lambda c: any(row.checkpoint is not None for row in c.jobs))
    before = pods(stage, "train")
    admission = admit(preempt(found))
    assert stage.backend.probe(admission, stage.now()) is Effect.ABSENT
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.DONE
    assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
    again = stage.until(lambda c: any(r.id == found.id and r.run_id != found.run_id and r.nodes for r in c.jobs))
    assert not set(before) & set(pods(stage, "train")) and len(again.jobs) == 1
    assert again.jobs[0].checkpoint is None  # the old run's proof says nothing of the new one
    assert [row.verb for row in stage.server.log if "/pods/" in row.path] == ["create"]  # an eviction, never a delete


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verified": False}, "nobody checked the files"),
        ({"run_id": "another"}, "written by an earlier run"),
        ({"id": "c2"}, "another checkpoint than the one decided on"),
        ({"at": 9e12}, "from the future"),
        ({"at": "yesterday"}, "not a time"),
        ({"step": "many"}, "not a step"),
    ],
)
def test_no_run_is_stopped_on_a_proof_that_does_not_hold(stage: KubernetesStage, changes: dict[str, Any], why: str) -> None:
    found = running(stage)
    proven(stage, found, **changes)
    assert stage.backend.apply(admit(preempt(found)), stage.now()).outcome is Outcome.STALE, why
    assert stage.job().run_id == found.run_id


def test_a_budget_that_allows_nothing_stops_nothing_and_is_named(stage: KubernetesStage) -> None:
    found = running(stage)
    proven(stage, found)
    stage.server.create("poddisruptionbudgets", budget("keep", "train", minAvailable=1))
    admission = admit(preempt(found))
    receipt = stage.backend.apply(admission, stage.now())
    assert receipt.outcome is Outcome.FAILED and "default/keep" in receipt.detail
    assert stage.backend.probe(admission, stage.now()) is Effect.ABSENT and stage.job().run_id == found.run_id
    stage.server.delete("poddisruptionbudgets", "keep")
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.DONE


def test_a_gang_of_which_the_budget_lets_only_half_go_is_not_touched(stage: KubernetesStage) -> None:
    stage.server.create("jobs", job("gang", pods=4, gpus=1))
    found = running(stage, "default/gang")
    proven(stage, found)
    stage.server.create("poddisruptionbudgets", budget("half", "gang", maxUnavailable="50%"))
    receipt = stage.backend.apply(admit(preempt(found)), stage.now())
    assert receipt.outcome is Outcome.FAILED and "allows 2 of 4" in receipt.detail
    assert stage.job("default/gang").run_id == found.run_id


def test_a_refusal_in_the_middle_of_a_gang_is_unknown_and_then_read_as_stopped(stage: KubernetesStage) -> None:
    stage.server.create("jobs", job("gang", pods=2, gpus=1))
    found = running(stage, "default/gang")
    proven(stage, found)
    asked = []

    def second(verb: str, path: str) -> Refused | None:
        if path.endswith("/eviction"):
            asked.append(path)
        return Refused(429, "TooManyRequests", "slow down") if len(asked) == 2 and path.endswith("/eviction") else None

    stage.server.faults.refuse = second
    admission = admit(preempt(found))
    receipt = stage.backend.apply(admission, stage.now())
    assert receipt.outcome is Outcome.UNKNOWN and "1 of 2" in receipt.detail
    stage.restart()
    assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY and len(asked) == 2


def test_a_job_that_an_eviction_would_end_for_good_is_left_alone(stage: KubernetesStage) -> None:
    rules = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    stage.server.create("jobs", job("fragile", gpus=1, backoffLimit=0))
    stage.server.create("jobs", job("sturdy", gpus=1, backoffLimit=0, podFailurePolicy=rules))
    for name, outcome in (("fragile", Outcome.FAILED), ("sturdy", Outcome.DONE)):
        found = running(stage, f"default/{name}")
        proven(stage, found)
        assert stage.backend.apply(admit(preempt(found), id=name), stage.now()).outcome is outcome


def test_a_checkpoint_is_asked_for_by_annotation_and_shown_as_asked(stage: KubernetesStage) -> None:
    found = running(stage)
    wish = admit(RequestCheckpoint(job=found.id, run_id=found.run_id))
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.DONE
    seen = stage.job()
    assert seen.checkpoint_requested_at is not None and seen.checkpoint is None
    marks = stage.server.store.get(stage.server.resource("jobs"), "default", "train")["metadata"]["annotations"]
    id, run, _ = marks["aiops.io/checkpoint-requested"].split()
    proven(stage, found, id=id, run_id=run)  # the answer names the request
    after = next(r for c in [stage.until(lambda c: c.jobs[0].checkpoint is not None)] for r in c.jobs)
    assert after.checkpoint is not None and after.checkpoint.id == "a1" and after.checkpoint_requested_at is None


def test_work_of_other_controllers_is_seen_and_protected(stage: KubernetesStage) -> None:
    owner = [{"kind": "PyTorchJob", "name": "llm", "uid": "u1", "controller": True}]
    stage.server.controllers.settle = lambda: None  # type: ignore[method-assign]
    stage.server.store.on_write = lambda: None
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
    body = {"spec": {"containers": [container], "nodeName": "n1"}, "status": {"phase": "Running"}}
    stage.server.create("pods", {"metadata": {"name": "llm-0", "ownerReferences": owner}, **body})
    stage.server.create("pods", {"metadata": {"name": "shell"}, **body})
    seen = stage.until(lambda c: len(c.jobs) == 3)
    rows = {row.id: (row.gpus, row.protected) for row in seen.jobs}
    assert rows["default/pytorchjob/llm"] == (4, True) and rows["default/pod/shell"] == (4, True)
    found = next(row for row in seen.jobs if row.name == "llm")
    assert stage.backend.apply(admit(preempt(found)), stage.now()).outcome is Outcome.STALE
    assert not [row for row in stage.server.log if "eviction" in row.path]


def test_gpus_of_a_deployment_that_nobody_opted_in_are_seen_as_taken(stage: KubernetesStage) -> None:
    """Else a run is stopped for room that is not there, again and again; a drain may still move it."""
    body = deployment("notebook", replicas=2)
    del body["metadata"]["annotations"]
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "3"
    stage.server.create("deployments", body)
    seen = stage.until(lambda c: any(row.gpus == 6 and row.state is JobState.RUNNING for row in c.jobs))
    (found,) = (row for row in seen.jobs if row.id.startswith("default/replicaset/notebook-"))
    assert found.nodes and not found.protected
    assert [row.name for row in seen.services] == ["default/deployments/web"]
    assert not any("web" in row.id for row in seen.jobs), "what is a service is no job"
    assert stage.backend.apply(admit(preempt(found)), stage.now()).outcome is Outcome.STALE


def test_a_drain_moves_services_and_asks_jobs(stage: KubernetesStage) -> None:
    stage.server.create("nodes", node("n2"))
    found = running(stage)
    target = next(row for row in stage.observe().nodes if row.name == found.nodes[0])
    wish = admit(Drain(node=target.name, uid=target.uid, reason="ECC errors"))
    receipt = stage.backend.apply(wish, stage.now())
    assert receipt.outcome is Outcome.FAILED and "asked for a checkpoint" in receipt.detail
    seen = stage.until(lambda c: any(row.state is NodeState.DRAINING and row.reason == "ECC errors" for row in c.nodes))
    assert next(row for row in seen.jobs).run_id == found.run_id
    proven(stage, found)
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.DONE
    moved = stage.until(lambda c: c.jobs[0].run_id != found.run_id and c.jobs[0].state is JobState.RUNNING)
    assert target.name not in moved.jobs[0].nodes
    assert stage.backend.apply(wish, stage.now()).outcome is Outcome.ALREADY


def test_a_job_in_a_kueue_queue_has_its_priority_and_its_reason_from_kueue(stage: KubernetesStage) -> None:
    queued = job("queued", suspend=True)
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    made = stage.server.create("jobs", queued)
    owner = {"kind": "Job", "name": "queued", "uid": made["metadata"]["uid"], "controller": True}
    why = {"type": "QuotaReserved", "status": "False", "message": "insufficient unused quota for nvidia.com/gpu in flavor h200"}
    gone = {"type": "Evicted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"metadata": {"name": "job-queued", "ownerReferences": [owner]}, "spec": {"priority": 700}}
    stage.server.create("workloads", {**body, "status": {"conditions": [why, gone]}})
    seen = stage.until(lambda c: any(row.name == "queued" and row.priority == 700 for row in c.jobs))
    found = next(row for row in seen.jobs if row.name == "queued")
    assert found.state is JobState.QUEUED and "insufficient unused quota" in found.reason
    assert found.evictions == (1767225600.0,)
    admitted = {"status": {"conditions": [{**why, "status": "True", "message": "Quota reserved"}]}}
    stage.server.change("workloads", "job-queued", admitted)
    stage.until(lambda c: any(row.name == "queued" and not row.reason and not row.evictions for row in c.jobs))


def test_a_suspended_job_is_resumed_unless_kueue_admits_it(stage: KubernetesStage) -> None:
    queued = job("queued", suspend=True)
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    stage.server.create("jobs", queued)
    stage.server.create("jobs", job("held", suspend=True))
    rows = {row.name: row for row in stage.until(lambda c: len(c.jobs) == 3).jobs}
    assert rows["held"].state is JobState.HELD and rows["queued"].state is JobState.QUEUED
    assert rows["queued"].queue == "default/team"
    for name, outcome in (("queued", Outcome.FAILED), ("held", Outcome.DONE)):
        wish = Resume(job=rows[name].id, run_id=rows[name].run_id)
        assert stage.backend.apply(admit(wish, id=name), stage.now()).outcome is outcome
    assert running(stage, "default/held").gpus == 2
