"""Every kind of action over real processes on this machine: the public rows, and a stage that brings each about."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from local_stage import LocalStage, job, service

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    Rollback,
    RolloutStep,
    ScalePool,
    ScaleService,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.model import Cluster, Job, JobState
from aiops.testing.backend import admit
from aiops.testing.backend_actions import ActionConformance

SECTION = {
    "nodes": {"n0": {"gpus": 2}, "n1": {"gpus": 2}},
    "queues": {"rich": {"quota_gpus": 4}, "poor": {"quota_gpus": 0}},
    "services": {"web": service()},
    "jobs": {
        "train": job(queue="rich", knobs={"loader": {"value": 2, "min": 1, "max": 8}}),
        "spare": job(queue="rich", held=True),
        "poor": job(queue="poor"),
    },
    "links": {"uplink": {"capacity": 1_000_000_000, "kind": "uplink"}},
}
HOLD = HoldCapacity(hold="h", owner="job/spare", nodes=("n1",), gpus=1, ttl_s=30.0, fence=1)


class ActingStage(LocalStage):
    """Implements `aiops.testing.backend_actions.Acts`."""

    def prepare(self, kind: str) -> Action | str:
        seen = self.until(lambda cluster: the(cluster, "train").state is JobState.RUNNING and bool(cluster.services[0].ready))
        for action in (*self._of_runs(kind, seen), *self._of_the_rest(kind, seen)):
            if action.kind == kind:
                return action
        assert kind == "set_power_limit", kind
        return "a declared slot has no power limit; real GPUs are faked in test_local_gpus.py"

    def _of_runs(self, kind: str, seen: Cluster) -> list[Action]:
        train, spare, poor = (the(seen, name) for name in ("train", "spare", "poor"))
        if kind in ("preempt", "migrate"):
            self.acknowledge(train)
        to = "n1" if train.nodes == ("n0",) else "n0"
        run = train.run_id
        return [
            RequestCheckpoint(job="train", run_id=run),
            Suspend(job="train", run_id=run),
            TuneJob(job="train", run_id=run, knob="loader", value=4.0, was=2.0),
            Preempt(job="train", run_id=run, on_nodes=train.nodes, checkpoint="c1", gpus=1, lost_gpu_s=0.0),
            Migrate(job="train", run_id=run, on_nodes=train.nodes, to_nodes=(to,), checkpoint="c1", gpus=1),
            Resume(job="spare", run_id=spare.run_id),
            Requeue(job="spare", run_id=spare.run_id),
            LendQueue(job="poor", run_id=poor.run_id, borrower="poor", lender="rich", nodes=("n1",), gpus=1),
        ]

    def _of_the_rest(self, kind: str, seen: Cluster) -> list[Action]:
        web, node = seen.services[0], seen.nodes[1]
        cap = LimitBandwidth(link="uplink", owner="job/train", bytes_per_s=5e6, was=None)
        sure = ReserveBandwidth(link="uplink", owner="job/train", bytes_per_s=5e6)
        before: dict[str, Action] = {
            "uncordon": Cordon(node="n1", uid=node.uid, reason="before"), "confirm_hold": HOLD, "release_hold": HOLD,
            "release_bandwidth": sure, "rollback": cap,
        }  # fmt: skip
        if kind in before:
            assert self.backend.apply(admit(before[kind], id="before"), self.now()).outcome is Outcome.DONE
        return [
            ScaleService(service="web", uid=web.uid, version=web.version, replicas=2, was=1),
            ScalePool(pool="local", version="0", nodes=3, was=2),
            RolloutStep(service="web", uid=web.uid, revision="r2", share=0.1, was=0.0),
            Cordon(node="n1", uid=node.uid, reason="test"),
            Drain(node="n1", uid=node.uid, reason="test"),
            Uncordon(node="n1", uid=node.uid),
            HOLD, ConfirmHold(hold="h", fence=1), ReleaseHold(hold="h", fence=1),
            cap, sure, ReleaseBandwidth(link="uplink", owner="job/train"),
            Rollback(of="before", action=LimitBandwidth(link="uplink", owner="job/train", bytes_per_s=None, was=5e6)),
        ]  # fmt: skip

    def acknowledge(self, run: Job) -> None:
        """What a job writes when it has saved a checkpoint."""
        path = self.directory.parent / "model"
        path.write_bytes(b"weights")
        row = {"path": str(path), "bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
        said = {"id": "c1", "run_id": run.run_id, "at": self.now(), "manifest": {"files": [row]}, "complete": True}
        supervisor = self.backend._supervisor
        (supervisor.control(supervisor.book.state.jobs[run.id]) / "checkpoint-ack.json").write_bytes(orjson.dumps(said))


def the(cluster: Cluster, name: str) -> Job:
    return next(one for one in cluster.jobs if one.id == name)


class TestLocalActions(ActionConformance):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[ActingStage]:
        stage = ActingStage(tmp_path, SECTION)
        yield stage
        stage.finish()
