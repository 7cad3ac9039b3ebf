"""The arms: what can be tried against a trouble, each as one reversible action within hard bounds, or nothing. Pure.

Which one is tried first, and whether it helped, is `remedy.py`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiops.action import Action, LimitBandwidth, Migrate, ReleaseBandwidth, ReserveBandwidth, TuneJob
from aiops.model import Cause, Cluster, Job, Knob, NodeState
from aiops.snapshot import Snapshot
from policies.cores import carries, unused
from policies.handshake import Terms, proven, requests
from policies.trouble import Trouble
from policies.victims import unheld
from policies.wires import share, users

ORDER: Mapping[Cause, tuple[str, ...]] = {
    Cause.NOISY_NEIGHBOUR: ("throttle", "reserve", "move"),
    Cause.IO_STALL: ("throttle", "reserve", "loader_up"),
    Cause.PREP_STALL: ("loader_up",),
    Cause.NET_CONTENTION: ("throttle", "compress", "reserve"),
    Cause.CPU_CONTENTION: ("move", "loader_down"),
    Cause.MEMORY_PRESSURE: ("loader_down", "move"),
}
"""What is tried, in this order: first what costs the sufferer nothing, last what stops it."""
KNOBS = ("loader_up", "loader_down", "compress", "uncompress")
"""The arms that only turn a knob: those whose order may be learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How far an arm goes. Ratios are of the link's capacity."""

    throttle_ratio: float = 0.25
    reserve_ratio: float = 0.25
    loader_knob: str = "loader_workers"
    compression_knob: str = "compression"
    compressed: float = 0.75
    usual: float = 0.5
    proof_age_s: float = 25.0
    checkpoint_age_s: float = 300.0
    restart_s: float = 60.0
    horizon_s: float = 3600.0


def action(arm: str, trouble: Trouble, snapshot: Snapshot, amounts: Amounts) -> Action | str:
    """What the arm would do now, or in words why it cannot."""
    match arm:
        case "throttle":
            return _throttle(trouble, snapshot.cluster, amounts)
        case "reserve":
            return _reserve(trouble, amounts)
        case "move":
            return _move(trouble, snapshot, amounts)
        case _:
            return _tune(arm, trouble.job, amounts)


def undone(done: Action, cluster: Cluster) -> Action | None:
    """The action that puts back what `done` changed, where that is still in force as it was left; None where it is not."""
    match done:
        case TuneJob():
            job = next((job for job in cluster.jobs if job.id == done.job and job.run_id == done.run_id), None)
            now = _knob(job, done.knob) if job else None
            same = now is not None and now.value == done.value
            return TuneJob(job=done.job, run_id=done.run_id, knob=done.knob, value=done.was, was=done.value) if same else None
        case LimitBandwidth():
            link = next((link for link in cluster.links if link.name == done.link), None)
            same = link is not None and share(link, done.owner).cap_bytes_per_s == done.bytes_per_s is not None
            was = done.bytes_per_s
            return LimitBandwidth(link=done.link, owner=done.owner, bytes_per_s=done.was, was=was) if same else None
        case ReserveBandwidth():
            link = next((link for link in cluster.links if link.name == done.link), None)
            same = link is not None and share(link, done.owner).guarantee_bytes_per_s == done.bytes_per_s
            return ReleaseBandwidth(link=done.link, owner=done.owner) if same else None
        case _:
            return None


def _throttle(trouble: Trouble, cluster: Cluster, amounts: Amounts) -> LimitBandwidth | str:
    """Cap the neighbour, else the least important other user of the link; never one that outranks the sufferer."""
    link = trouble.link
    if link is None or link.capacity_bytes_per_s <= 0:
        return "no link is known that could be capped"
    if share(link, f"job/{trouble.job.id}").cap_bytes_per_s is not None:
        return f"{trouble.job.id} is capped on {link.name} itself"
    others = [job for job in users(cluster, link) if job.id != trouble.job.id]
    named = [job for job in (trouble.neighbour,) if job is not None] or others
    meek = [job for job in named if not job.protected and job.priority <= trouble.job.priority]
    for job in sorted(meek, key=lambda job: (job.priority, job.id)):
        has = share(link, f"job/{job.id}")
        cap = max(amounts.throttle_ratio * link.capacity_bytes_per_s, has.guarantee_bytes_per_s or 0.0)
        if has.cap_bytes_per_s is None or has.cap_bytes_per_s > cap:
            return LimitBandwidth(link=link.name, owner=has.owner, bytes_per_s=cap, was=has.cap_bytes_per_s)
    return f"nobody on {link.name} may be capped further"


def _reserve(trouble: Trouble, amounts: Amounts) -> ReserveBandwidth | str:
    link = trouble.link
    if link is None or link.capacity_bytes_per_s <= 0:
        return "no link is known on which to guarantee anything"
    if trouble.job.protected:
        return f"{trouble.job.id} is protected: a guarantee could not be taken back"
    owner, rate = f"job/{trouble.job.id}", amounts.reserve_ratio * link.capacity_bytes_per_s
    if share(link, owner).guarantee_bytes_per_s is not None:
        return f"{owner} has a guarantee on {link.name} already"
    return ReserveBandwidth(link=link.name, owner=owner, bytes_per_s=rate)


def _tune(arm: str, job: Job, amounts: Amounts) -> TuneJob | str:
    name = amounts.loader_knob if arm.startswith("loader") else amounts.compression_knob
    knob = _knob(job, name)
    if knob is None:
        return f"{job.id} declares no knob {name}"
    if not arm.startswith("loader") and not job.compresses:
        return f"{job.id} does not allow compression"
    aims = {
        "loader_up": max(1.0, 2 * knob.value), "loader_down": float(int(knob.value / 2)), "compress": amounts.compressed,
        "uncompress": amounts.usual,
    }  # fmt: skip
    value = min(max(aims[arm], knob.least), knob.most)
    wrong = value <= knob.value if arm in ("loader_up", "compress") else value >= knob.value
    if wrong:
        return f"{name} of {job.id} is {knob.value:g} and may go no further ({knob.least:g}..{knob.most:g})"
    return TuneJob(job=job.id, run_id=job.run_id, knob=name, value=value, was=knob.value)


def _move(trouble: Trouble, snapshot: Snapshot, amounts: Amounts) -> Action | str:
    """Elsewhere, where what is gained outweighs what the move loses, with a fresh proof of a checkpoint."""
    job, now, nodes = trouble.job, snapshot.cluster.at, snapshot.cluster.nodes
    pools, cores = {node.pool for node in nodes if node.name in job.nodes}, unused(snapshot.cluster)
    room = {name: free for name, free in unheld(snapshot).items() if free >= job.gpus and name not in job.nodes}
    room = {name: free for name, free in room.items() if carries(cores, name, job)}
    there = (n for n in nodes if n.name in room and n.pool in pools and n.state is NodeState.READY)
    suits = [n for n in there if sum(gpu.healthy and job.gpu_type in ("", gpu.model) for gpu in n.gpus) >= job.gpus]
    if len(job.nodes) != 1 or job.gang:
        return f"{job.id} is one of {job.gang}, which moves whole" if job.gang else f"{job.id} spans {len(job.nodes)} nodes"
    if job.protected or job.lender:
        return f"{job.id} is {'protected' if job.protected else 'lent room that may be taken back'}: it is not moved"
    if not suits:
        return f"no other node has room for {job.id}"
    gained, spent = worth(trouble, now, amounts)
    if gained < spent:
        return f"a move would gain {gained:.0f} GPU-s and lose {spent:.0f}"
    proof, terms = job.checkpoint, Terms(proof_age_s=amounts.proof_age_s, checkpoint_age_s=amounts.checkpoint_age_s)
    if proof is None or not proven(job, now, terms):
        asked = requests([job], now, terms)
        return asked[0] if asked else f"the checkpoint of {job.id} is not proven yet"
    best = min(suits, key=lambda node: (room[node.name], node.name))
    return Migrate(job=job.id, run_id=job.run_id, on_nodes=job.nodes, to_nodes=(best.name,), checkpoint=proof.id, gpus=job.gpus)


def worth(trouble: Trouble, now: float, amounts: Amounts) -> tuple[float, float]:
    """GPU-seconds that a move would gain over the rest of the run, and that it would lose (policy.md 12)."""
    job, told = trouble.job, trouble.finding.counterfactual
    slow, well = told.get("step_now_s", 0.0), told.get("step_s", 0.0)
    share_lost = 1 - well / slow if 0 < well < slow else 0.0
    begun = job.started_at if job.started_at is not None else now
    left = amounts.horizon_s if job.runtime_s is None else max(0.0, job.runtime_s - (now - begun))
    since = now - job.checkpoint.at if job.checkpoint else now - begun
    restart = amounts.restart_s if job.restart_s is None else job.restart_s
    return job.gpus * share_lost * left, job.gpus * (max(0.0, since) + restart + (job.checkpoint_s or 0.0))


def _knob(job: Job | None, name: str) -> Knob | None:
    return next((knob for knob in job.knobs if knob.name == name), None) if job else None
