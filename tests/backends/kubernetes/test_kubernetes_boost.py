"""Kueue's priority boost: on the Workload of a job that runs with Kueue's quota, ours only, and gone with its reason."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubernetes_stage import KubernetesStage
from test_kubernetes_permissions import grants, used

from aiops.action import Decision, Effect, Outcome, TuneJob
from aiops.backends.kubernetes.boost import KNOB
from aiops.model import Job, JobState
from aiops.snapshot import Snapshot
from aiops.testing.backend import admit
from aiops.testing.backend_actions import moved
from aiops.testing.kubernetes import ApiServer
from policies.boost import Boost

BOOST, MARK = "kueue.x-k8s.io/priority-boost", "aiops.io/boost"
RESERVED = {"type": "QuotaReserved", "status": "True", "message": "Quota reserved"}
EVICTED = {"type": "Evicted", "status": "True", "reason": "Preempted", "lastTransitionTime": "2026-01-01T00:00:00Z"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[KubernetesStage]:
    """`train` runs with Kueue's quota."""
    with ApiServer() as server:
        stage = KubernetesStage.small(server, tmp_path)
        stage.restart(kueue_boost=100)
        uid = server.change("jobs", "train", {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}}})["metadata"]["uid"]
        owner = {"kind": "Job", "name": "train", "uid": uid, "controller": True}
        meta = {"name": "job-train", "labels": {"kueue.x-k8s.io/job-uid": uid}, "ownerReferences": [owner]}
        server.create("workloads", {"metadata": meta, "spec": {"priority": 7}, "status": {"conditions": [RESERVED]}})
        yield stage
        stage.finish()


def notes(stage: KubernetesStage) -> tuple[str | None, str | None]:
    """Kueue's annotation, and what aiops wrote down as its own."""
    (row,) = stage.server.store.all(stage.server.resource("workloads"))
    found = row["metadata"].get("annotations") or {}
    return found.get(BOOST), found.get(MARK)


def running(stage: KubernetesStage, value: float | None = 0.0) -> Job:
    """`train`, once it runs and is offered a boost of this value (None: no boost)."""

    def there(row: Job) -> bool:
        boosts = [knob.value for knob in row.knobs if knob.name == KNOB]
        return row.state is JobState.RUNNING and row.priority == 7 and boosts == ([] if value is None else [value])

    return next(row for row in stage.until(lambda c: any(there(row) for row in c.jobs)).jobs if there(row))


def wish(found: Job, value: float = 100.0, was: float = 0.0) -> TuneJob:
    return TuneJob(job=found.id, run_id=found.run_id, knob=KNOB, value=value, was=was)


def change(stage: KubernetesStage, **changes: Any) -> None:
    stage.server.change("workloads", "job-train", changes)


def test_a_boost_is_written_once_and_taken_away_whole(stage: KubernetesStage) -> None:
    up = admit(wish(running(stage)), id="up")
    assert stage.backend.probe(up, stage.now()) is Effect.ABSENT
    assert stage.backend.apply(up, stage.now()).outcome is Outcome.DONE
    assert notes(stage) == ("100", "100") and stage.backend.probe(up, stage.now()) is Effect.PRESENT
    stage.restart()
    assert stage.backend.apply(up, stage.now()).outcome is Outcome.ALREADY and stage.effects() == ("up",)
    down = admit(wish(running(stage, 100.0), 0.0, 100.0), id="down")
    assert stage.backend.apply(down, stage.now()).outcome is Outcome.DONE
    assert notes(stage) == (None, None) and running(stage).priority == 7


def test_a_lost_reply_is_found_and_not_repeated(stage: KubernetesStage) -> None:
    admission = admit(wish(running(stage)), id="once")
    stage.lose_next_reply()
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.UNKNOWN
    assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY and stage.effects() == ("once",)


def test_a_world_that_moved_is_stale(stage: KubernetesStage) -> None:
    good = wish(running(stage))
    odd = replace(good, knob="loader"), replace(good, value=101.0), replace(good, value=0.5)
    for number, row in enumerate((*moved(good), *odd)):
        assert stage.backend.apply(admit(row, id=f"m{number}"), stage.now()).outcome is Outcome.STALE, row
    change(stage, status={"conditions": [RESERVED, EVICTED]})
    assert stage.backend.apply(admit(good, id="evicted"), stage.now()).outcome is Outcome.STALE
    stage.server.delete("workloads", "job-train")
    assert stage.backend.apply(admit(good, id="gone"), stage.now()).outcome is Outcome.STALE and not stage.effects()


@pytest.mark.parametrize("theirs", ["-100", "100", "0", "high"])
def test_somebody_elses_boost_is_neither_changed_nor_taken_back(stage: KubernetesStage, theirs: str) -> None:
    found = running(stage)
    change(stage, metadata={"annotations": {BOOST: theirs, MARK: "50"}})
    running(stage, None)
    assert stage.backend.apply(admit(wish(found)), stage.now()).outcome is Outcome.STALE
    change(stage, status={"conditions": [EVICTED]})
    stage.until(lambda c: bool(c.jobs and c.jobs[0].evictions))
    assert stage.backend.finish(stage.now()) == () and notes(stage) == (theirs, "50")


def boosted(stage: KubernetesStage) -> None:
    assert stage.backend.apply(admit(wish(running(stage))), stage.now()).outcome is Outcome.DONE
    running(stage, 100.0)
    assert stage.backend.finish(stage.now()) == (), "it is due"


@pytest.mark.parametrize("conditions", [[RESERVED, EVICTED], [{**RESERVED, "status": "False"}]], ids=["evicted", "no quota"])
def test_a_workload_that_loses_its_quota_loses_its_boost_before_it_can_push_others_off(
    stage: KubernetesStage, conditions: list[dict[str, str]]
) -> None:
    boosted(stage)
    change(stage, status={"conditions": conditions})
    stage.until(lambda c: bool(c.jobs and not c.jobs[0].knobs))
    assert "taken back" in stage.backend.finish(stage.now())[0] and notes(stage) == (None, None)
    stage.observe()
    assert stage.backend.finish(stage.now()) == ()


@pytest.mark.parametrize("most", [0, 99])
def test_boosts_that_are_switched_off_or_lowered_are_taken_back(stage: KubernetesStage, most: int) -> None:
    boosted(stage)
    stage.restart(kueue_boost=most)
    stage.until(lambda c: bool(c.jobs))
    assert "taken back" in stage.backend.finish(stage.now())[0] and notes(stage) == (None, None)


def test_by_default_there_is_no_boost_and_it_is_refused_by_name(stage: KubernetesStage) -> None:
    stage.restart(kueue_boost=0)
    found = running(stage, None)
    receipt = stage.backend.apply(admit(wish(found)), stage.now())
    assert receipt.outcome is Outcome.UNSUPPORTED and "tune_job" in receipt.detail and not stage.effects()


def test_the_policy_boosts_a_long_run_and_takes_it_back_after_the_next_checkpoint(stage: KubernetesStage) -> None:
    def turn(value: float, later_s: float) -> list[float]:
        """What the policy makes of it so much later, carried out."""
        found = running(stage, value)
        snapshot = Snapshot(id="c", now=stage.now() + later_s, epoch=1, cluster=stage.observe())
        actions = [one.action for one in Boost().decide(snapshot) if isinstance(one, Decision)]
        wishes = [row for row in actions if isinstance(row, TuneJob) and row.job == found.id]
        for row in wishes:
            id = f"{value}-{later_s}"
            assert stage.backend.apply(admit(row, id=id), stage.now()).outcome is Outcome.DONE
        return [row.value for row in wishes]

    found = running(stage)
    proof = {"id": "c1", "run_id": found.run_id, "at": stage.now(), "verified": True}
    marks = {"metadata": {"annotations": {"aiops.io/checkpoint": orjson.dumps(proof).decode()}}}
    stage.server.change("jobs", "train", marks)
    stage.until(lambda c: c.jobs[0].checkpoint is not None)
    assert turn(0.0, 3600.0) == []  # 2 GPU-hours
    assert turn(0.0, 3 * 3600.0) == [50.0] and turn(50.0, 3 * 3600.0) == []
    assert turn(50.0, 9 * 3600.0) == [100.0] and notes(stage) == ("100", "100")
    assert turn(100.0, 60.0) == [0.0] and notes(stage) == (None, None)  # as new as after another checkpoint


def test_it_needs_one_more_manifest_and_grants_nothing_else(stage: KubernetesStage) -> None:
    boosted(stage)
    change(stage, status={"conditions": []})
    stage.until(lambda c: bool(c.jobs and not c.jobs[0].knobs))
    assert stage.backend.finish(stage.now())
    extra = used(stage.server) - grants("aiops.yaml")
    assert extra == grants("kueue.yaml") == {("kueue.x-k8s.io", "workloads", "get"), ("kueue.x-k8s.io", "workloads", "patch")}
