"""Take broken nodes out of use on evidence, and give them back on evidence.

As one would tell an operator: *"When a GPU has been lost, or I have been sure that a GPU or node is faulty, for some minutes, I
let no new work onto its node; a device plugin or driver that restarts hides its GPUs for less. If the fault is a hard one and
stays, I move the work off, as gently as the cluster can. I give back only what I took, after half an hour in which every GPU
of the node answered and nobody complained, and not a second time in a day: then a person decides. I never take out more than
a tenth of a pool."*

What was cordoned by a person is a person's. No finding is not health: a node is given back on measurements only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from aiops.action import Cordon, Decision, Drain, Entry, EntryState, Uncordon
from aiops.model import Cause, Cluster, Finding, Match, Matcher, Node, NodeState, Query, Series
from aiops.snapshot import Need, Snapshot
from policies.rules import rule_of

MARK = "aiops repair: "
"""Begins the reason of every cordon of this policy: what does not begin so is not ours to undo."""
HARD = frozenset({Cause.GPU_FAULT})
SOFT = frozenset({Cause.THERMAL_THROTTLE})
"""Heat slows a node, and goes away by itself: it takes no new work, and keeps what it has."""
DAY_S = 86400.0
GAP_S = 60.0
"""Looks at a lost GPU that are further apart than this were two losses, for all that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings. A tenth of the nodes is Karpenter's budget; the times are choices, not measurements."""

    confidence: float = 0.8
    max_diagnosis_age_s: float = 120.0  # four diagnoses
    patience_s: float = 120.0
    drain_after_s: float = 300.0
    well_s: float = 1800.0
    out_ratio: float = 0.1
    cordons_per_day: int = 2
    drain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a node should not be used: in words, since when, and whether it will not go away by itself."""

    told: str
    since: float
    at: float
    hard: bool
    cause: str


class Repair:
    """Cordon, drain, uncordon."""

    name: ClassVar[str] = "repair"
    every_s: ClassVar[float] = 30.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Repair:
        """From the section `policies.repair`; ConfigError names the key that is unknown or out of range."""
        return cls(rule_of(Rule, section, where, cls.name))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Since when GPUs are lost; whether those of nodes that this policy took out answer, and whether they report errors."""
        uuids = sorted(gpu.uuid for node in cluster.nodes if ours(node) for gpu in node.gpus)
        queries = (self._losses(), *self._queries(uuids)) if any(lost(node) for node in cluster.nodes) else self._queries(uuids)
        return [Need(query=query, required=False) for query in queries]

    def _losses(self) -> Query:
        return Query(metric="node_gpus_lost", window_s=max(self.rule.patience_s, self.rule.drain_after_s) + GAP_S)

    def _queries(self, uuids: Sequence[str]) -> tuple[Query, ...]:
        if not uuids:
            return ()
        which = (Matcher("uuid", "|".join(uuids), Match.REGEX),)
        metrics = ("gpu_up", "gpu_xid_errors_total")
        return tuple(Query(metric=m, matchers=which, window_s=self.rule.well_s, step_s=60.0) for m in metrics)

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """One decision or note per node that is faulty or was; the surest fault first, while the pool's budget lasts."""
        faults = {node.name: fault for node in snapshot.cluster.nodes if (fault := self._fault(snapshot, node))}
        taken: dict[str, int] = {}
        for node in sorted(snapshot.cluster.nodes, key=lambda node: (not _hard(faults, node), node.name)):
            fault = faults.get(node.name)
            if fault is None:
                if ours(node) and node.state is NodeState.CORDONED:
                    yield self._give_back(snapshot, node)
            elif node.protected or node.state in (NodeState.DOWN, NodeState.OFF):
                yield f"{node.name}: {fault.told}; it is {'protected' if node.protected else node.state.value}: not touched"
            elif node.state is NodeState.READY:
                yield self._take_out(snapshot, node, fault, taken)
            else:
                yield from self._empty(snapshot, node, fault)

    # -- evidence ------------------------------------------------------------------------------------------------------

    def _fault(self, snapshot: Snapshot, node: Node) -> Fault | None:
        newest = (one for one in snapshot.findings if snapshot.now - one.at <= self.rule.max_diagnosis_age_s)
        found = [self._found(finding) for finding in newest if self._about(finding, node)]
        if gone := lost(node):
            told = f"lost {', '.join(gone)}"
            since = self._lost_since(snapshot, node)
            found.append(Fault(told=told, since=since, at=snapshot.cluster.at, hard=True, cause="gpu_fault"))
        return min(found, key=lambda fault: (not fault.hard, fault.since, fault.told), default=None)

    def _lost_since(self, snapshot: Snapshot, node: Node) -> float:
        """Since when it has been seen without a break that GPUs are lost, and since the node was cordoned, if it was."""
        cordoned = max((entry.admission.at for entry in _cordons(snapshot, node)), default=-np.inf)
        since = snapshot.now
        seen = (series for series in snapshot.of(self._losses()) if series.key.label("node") == node.name)
        times = sorted((float(time) for series in seen for time in series.times[series.values > 0]), reverse=True)
        for time in (time for time in times if time <= since):
            if since - time > GAP_S:
                break
            since = time
        return max(since, cordoned)

    @staticmethod
    def _found(finding: Finding) -> Fault:
        since = finding.since if finding.since is not None else finding.at
        told = f"{finding.cause.value} at {finding.subject} ({finding.confidence:.2f})"
        return Fault(told=told, since=since, at=finding.at, hard=finding.cause in HARD, cause=finding.cause.value)

    def _about(self, finding: Finding, node: Node) -> bool:
        names = {f"host:{node.name}", *(f"gpu:{gpu.uuid}" for gpu in node.gpus)}
        return (
            finding.cause in HARD | SOFT
            and finding.subject in names
            and finding.confidence >= self.rule.confidence
            and finding.horizon_s is None  # a warning of what may come is no fault yet
        )

    # -- out and back --------------------------------------------------------------------------------------------------

    def _take_out(self, snapshot: Snapshot, node: Node, fault: Fault, taken: dict[str, int]) -> Decision | str:
        if snapshot.now - fault.since < self.rule.patience_s:
            return f"{node.name}: {fault.told} for {snapshot.now - fault.since:.0f} s; {self.rule.patience_s:.0f} s are waited"
        members = [one for one in snapshot.cluster.nodes if one.pool == node.pool and one.state is not NodeState.OFF]
        out = sum(one.state is not NodeState.READY for one in members) + taken.get(node.pool, 0)
        most = max(1, int(self.rule.out_ratio * len(members)))
        if out >= most:
            return f"{node.name}: {fault.told}; {out} of {len(members)} nodes of {node.pool} are out already, {most} may be"
        taken[node.pool] = taken.get(node.pool, 0) + 1
        action = Cordon(node=node.name, uid=node.uid, reason=f"{MARK}{fault.told}")
        return self._wish(action, f"{node.name}: {fault.told}: no new work", fault, "no new work starts on it")

    def _empty(self, snapshot: Snapshot, node: Node, fault: Fault) -> Iterator[Decision | str]:
        """Move the work off a node that this policy cordoned, where the fault is hard and stays."""
        work = [job.id for job in snapshot.cluster.jobs if node.name in job.nodes]
        lasted = snapshot.now - fault.since
        if not ours(node) or node.state is not NodeState.CORDONED or not work:
            return
        if not (self.rule.drain and fault.hard and lasted >= self.rule.drain_after_s):
            yield f"{node.name}: {fault.told} for {lasted:.0f} s; {', '.join(sorted(work))} may run on"
            return
        action = Drain(node=node.name, uid=node.uid, reason=f"{MARK}{fault.told}")
        yield self._wish(action, f"{node.name}: {fault.told} for {lasted:.0f} s: its work moves", fault, "it is empty", 3600.0)

    def _give_back(self, snapshot: Snapshot, node: Node) -> Decision | str:
        cordons = _cordons(snapshot, node)
        if len(cordons) >= self.rule.cordons_per_day:
            return f"{node.name}: faulty {len(cordons)} times within a day: a person must say that it is well"
        last = max((entry.admission.at for entry in cordons), default=-np.inf)
        if snapshot.now - last < self.rule.well_s:
            return f"{node.name}: out for {snapshot.now - last:.0f} s; {self.rule.well_s:.0f} s are waited"
        doubt = self._doubt(snapshot, node)
        if doubt:
            return f"{node.name}: not given back: {doubt}"
        told = f"every GPU answered for {self.rule.well_s:.0f} s, no errors, no complaint"
        return Decision(
            policy=self.name, action=Uncordon(node=node.name, uid=node.uid), reason=f"{node.name}: {told}", evidence=(told,),
            expect="it takes work again", within_s=120.0, cause="recovered",
        )  # fmt: skip

    def _doubt(self, snapshot: Snapshot, node: Node) -> str:
        """Why the node is not known to be well, '' where it is: what does not exist must not count as healthy."""
        if not node.gpus:
            return "it has no GPU whose answers would prove it: a person must"
        queries = self._queries(sorted(gpu.uuid for one in snapshot.cluster.nodes if ours(one) for gpu in one.gpus))
        answers, errors = (snapshot.of(query) for query in queries)
        for gpu in node.gpus:
            if not any(self._answered(series, snapshot.now) for series in answers if series.key.label("uuid") == gpu.uuid):
                return f"{gpu.uuid} did not answer all the time"
            if any(_rose(series) for series in errors if series.key.label("uuid") == gpu.uuid):
                return f"{gpu.uuid} reported new errors"
        return ""

    def _answered(self, series: Series, now: float) -> bool:
        known = np.isfinite(series.values)
        enough = known.sum() >= 0.9 * self.rule.well_s / 60.0
        return bool(enough and (series.values[known] == 1.0).all() and series.latest(now, 120.0).fresh)

    def _wish(self, action: Cordon | Drain, reason: str, fault: Fault, expect: str, within_s: float = 120.0) -> Decision:
        return Decision(
            policy=self.name, action=action, reason=reason, evidence=(fault.told,), expect=expect, within_s=within_s,
            cause=fault.cause, rejected=("leave it in use: new work would fail on it too",), inputs_at=fault.at,
        )  # fmt: skip


def lost(node: Node) -> list[str]:
    """GPUs that the inventory knows and cannot reach; it does not say since when."""
    return [gpu.uuid for gpu in node.gpus if not gpu.healthy]


def ours(node: Node) -> bool:
    """True where this policy took the node out."""
    return node.reason.startswith(MARK) and node.state in (NodeState.CORDONED, NodeState.DRAINING)


def _cordons(snapshot: Snapshot, node: Node) -> list[Entry]:
    """Confirmed cordons of a node within a day, by whomever."""
    return [
        entry
        for entry in snapshot.history
        if isinstance(entry.admission.decision.action, Cordon)
        and entry.admission.decision.action.node == node.name
        and entry.state is EntryState.CONFIRMED
        and snapshot.now - entry.admission.at < DAY_S
    ]


def _hard(faults: Mapping[str, Fault], node: Node) -> bool:
    return node.name in faults and faults[node.name].hard


def _rose(series: Series) -> bool:
    values = series.values[np.isfinite(series.values)]
    return bool(len(values) > 1 and values[-1] > values[0])
