"""Which action a trial wishes, on what, and how the world moves away under it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from slurm_stage import SlurmStage
from test_slurm_actions import checkpointed, preempt

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    Migrate,
    ReleaseBandwidth,
    ReleaseHold,
    ReserveBandwidth,
    Resume,
    Suspend,
    Uncordon,
    target,
)
from aiops.backends.slurm import marks
from aiops.model import Job, JobState, NodeState

KINDS = ("run", "run", "run", "node", "hold", "bandwidth")
GBPS = 125e6


class Wishes:
    """Draws actions; remembers which runs an id had, and which holds are there."""

    def __init__(self, stage: SlurmStage, chance: random.Random) -> None:
        self.stage = stage
        self.random = chance
        self.past: dict[str, set[str]] = {}
        self.fence = 0
        self.owner = f"user/{stage.server.user}"

    def remember(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.past.setdefault(job.id, set()).add(job.run_id)

    def draw(self, usable: Sequence[Job]) -> Action:
        kind = self.random.choice(KINDS)
        return {"node": self.node, "hold": self.hold, "bandwidth": self.bandwidth}.get(kind, lambda: self.run(usable))()

    def run(self, usable: Sequence[Job]) -> Action:
        """Suspend, preempt or move what runs; resume what is suspended; release what is held."""
        job = self.random.choice(list(usable))
        if job.state in (JobState.SUSPENDED, JobState.HELD):
            return Resume(job=job.id, run_id=job.run_id)
        match self.random.randrange(3):
            case 0:
                return Suspend(job=job.id, run_id=job.run_id)
            case 1:
                return preempt(job)
            case _:
                others = [name for name in ("gpu1", "gpu2", "gpu3") if name not in job.nodes]
                proof, to = checkpointed(self.stage, job), (self.random.choice(others),)
                return Migrate(job=job.id, run_id=job.run_id, on_nodes=job.nodes, to_nodes=to, checkpoint=proof.id, gpus=0)

    def node(self) -> Action:
        """Take gpu2 or gpu3 out of service, and back into it."""
        nodes = [node for node in self.stage.observe().nodes if node.name in ("gpu2", "gpu3")]
        out = [node for node in nodes if node.state in (NodeState.CORDONED, NodeState.DRAINING)]
        if out:
            return Uncordon(node=out[0].name, uid=out[0].uid)
        node, kind = self.random.choice(nodes), self.random.choice((Cordon, Drain))
        return kind(node=node.name, uid=node.uid, reason="a trial")

    def hold(self) -> Action:
        """Hold gpu3, with bandwidth or without; then confirm or release it."""
        held = [name for name in self.stage.observe().holds if name.startswith("aiops-h-peak-")]
        if not held:
            self.fence += 1
            share = {"net_gbps": 20 * GBPS} if self.random.random() < 0.5 else {}
            return HoldCapacity(
                hold="peak",
                owner=self.owner,
                nodes=("gpu3",),
                gpus=8,
                ttl_s=900.0,
                fence=self.fence,
                bandwidth_bytes_per_s=share,
            )
        fence = int(held[0].rpartition("-f")[2])
        return self.random.choice((ConfirmHold, ReleaseHold, ReleaseHold))(hold="peak", fence=fence)

    def bandwidth(self) -> Action:
        """A guarantee of some Gbit/s, changed, or given back."""
        there = any(name.startswith("aiops-b-") for name in self.stage.observe().holds)
        if there and self.random.random() < 0.5:
            return ReleaseBandwidth(link="net_gbps", owner=self.owner)
        return ReserveBandwidth(link="net_gbps", owner=self.owner, bytes_per_s=self.random.randint(1, 40) * GBPS)

    def moved(self, action: Action, how: str) -> tuple[Action, str]:
        """The wish after the world moved away from it, and what became of it in words."""
        match action:
            case Suspend() | Resume() | Migrate() if how == "old id":
                earlier = sorted(self.past[action.job] - {action.run_id}) or ["1-0"]
                return replace(action, run_id=self.random.choice(earlier)), how
            case Cordon() | Drain() | Uncordon():
                return replace(action, uid=f"{action.uid}0"), "old id"
            case ConfirmHold() | ReleaseHold():
                return replace(action, fence=action.fence + 1), "old id"
            case HoldCapacity() | ReserveBandwidth() | ReleaseBandwidth():
                return action, "none"
            case _:
                command = ("scancel",) if how == "ended" else ("scontrol", "requeue")
                self.stage.server.run(*command, target(action).partition("/")[2], check=False)
                return action, "requeued" if how == "old id" else how

    def named(self, action: Action) -> str:
        """The key of the action's target in a `Sight`."""
        match action:
            case HoldCapacity() | ConfirmHold() | ReleaseHold():
                return f"res/{marks.hold_name(action.hold, action.fence)}"
            case ReserveBandwidth() | ReleaseBandwidth():
                return f"res/{marks.bandwidth_name(action.link, action.owner)}"
            case _:
                return target(action)
