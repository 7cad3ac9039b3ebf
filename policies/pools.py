"""Have the nodes ready before the jobs are there: pools follow the GPUs that are held, waited for, promised and foreseen.

As one would tell an operator: *"When jobs wait for GPUs that the pool has not, I ask for as many nodes as they need, at once.
On top of that I look ahead as far as a node takes to start. I give back nodes one by one: only empty ones that the pool may
give back, protected by nobody, promised to nobody, and only when neither the last ten minutes nor what is foreseen needs them.
Without fresh figures, while jobs wait, or where I cannot see what runs where, I give back nothing. While what runs here waits
for storage or network, I add nothing that would wait for the same."*

The half of `prescale` that scales nodes; part of its rule and of its settings. Targets are absolute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from aiops.action import Decision, EntryState, ScalePool
from aiops.decide.limits import Limits
from aiops.demand import pools
from aiops.model import Cluster, Pool, SeriesKey
from aiops.snapshot import Need, Snapshot
from policies.load import covered, demand, distrust, known, lead
from policies.outlook import Rule, only, query_of
from policies.room import Room, empty, fitting, promised, short
from policies.stalls import stalled_pool

DEMANDED = "pool_gpus_demanded"
SETTLE_S = 60.0
"""Beyond the start-up of a node: one late cycle, one lost reply and its reading."""
NOTHING = np.empty(0)
OPEN_OR_DONE = (EntryState.INTENT, EntryState.SENT, EntryState.CONFIRMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a pool in GPUs: now as of `at` (None: not fresh), at most in the last while, and what is foreseen."""

    now: float | None
    peak: float | None
    at: float | None
    ahead: float | None
    later: float | None
    lead_s: float
    lead_from: str
    unforeseen: str


def scalable(cluster: Cluster) -> list[Pool]:
    """Pools that somebody may scale, by name."""
    return sorted((pool for pool in cluster.pools if pool.min_nodes < pool.max_nodes), key=lambda pool: pool.name)


def needs_of_pools(cluster: Cluster, rule: Rule) -> list[Need]:
    """The demand of every pool that may be scaled. Not required: services are scaled without it."""
    keys = [SeriesKey.of(DEMANDED, pool=pool.name) for pool in scalable(cluster)]
    return [Need(query=query_of(key, rule.unneeded_s), required=False) for key in keys]


def scale_pools(
    snapshot: Snapshot, rule: Rule, policy: tuple[str, float], ordered: Mapping[str, int]
) -> Iterable[Decision | str]:
    """One decision or one note per pool that may be scaled; `policy` is its name and period.

    `ordered` is how many GPUs of each pool this very cycle asks for: a cycle later they would be in the demand.
    """
    for pool in scalable(snapshot.cluster):
        yield scale(snapshot, pool, rule, policy, ordered.get(pool.name, 0))


def scale(snapshot: Snapshot, pool: Pool, rule: Rule, policy: tuple[str, float], ordered: int = 0) -> Decision | str:
    """The nodes that a pool should have, or why it stays as it is."""
    room = Room.of(pool, snapshot.cluster)
    if not room.gpus_per_node:
        return f"pool {pool.name}: nobody says how many GPUs a node of it has"
    asked = ask(snapshot, pool, rule, policy[1])
    needed, why = grow(snapshot, pool, room, asked, ordered)
    target = min(max(needed + room.idle_on, pool.min_nodes), pool.max_nodes)
    if target > pool.nodes:
        stall = stalled_pool(snapshot, pool.name, rule.cause_confidence)
        if stall is not None:
            told = f"{stall.cause.value} on {stall.subject}: more nodes would not help"
            target, why = max(pool.nodes, pool.min_nodes), f"{why}; {told}"
        if target == pool.nodes:
            return f"pool {pool.name}: {why}"
        if asked_lately(snapshot, pool, target, asked.lead_s):
            return f"pool {pool.name}: {target} nodes are on their way"
        more = ScalePool(pool=pool.name, version=pool.version, nodes=target, was=pool.nodes)
        return decision(pool, more, (policy[0], why, asked))
    gone, kept = shrink(snapshot, pool, room, asked, rule)
    if not gone:
        return f"pool {pool.name}: {why}; {kept}"
    action = ScalePool(pool=pool.name, version=pool.version, nodes=pool.nodes - len(gone), was=pool.nodes, remove=gone)
    return decision(pool, action, (policy[0], kept, asked))


def ask(snapshot: Snapshot, pool: Pool, rule: Rule, period_s: float) -> Asked:
    """What is asked of the pool; a forecast that must not be used gives None ahead."""
    now, key = snapshot.now, SeriesKey.of(DEMANDED, pool=pool.name)
    series = only(snapshot, query_of(key, rule.unneeded_s))
    lead_s, lead_from = lead(pool.start_s, (rule.default_lead_s, rule.starts_needed), period_s)
    forecast = snapshot.forecast(str(key))
    unforeseen = distrust(forecast, now, rule.max_forecast_age_s)
    trusted = None if unforeseen else forecast
    fresh = series is not None and series.latest(now, rule.max_load_age_s).fresh
    times, values = known(series, now) if series is not None and fresh else (NOTHING, NOTHING)
    whole = fresh and covered(times, now, rule.unneeded_s, rule.max_load_age_s) >= rule.min_coverage
    return Asked(
        now=float(values[-1]) if fresh else None,
        peak=float(values.max()) if whole else None,
        at=float(times[-1]) if fresh else None,
        ahead=None if trusted is None else demand(trusted, now, lead_s, rule.pool_quantile),
        later=None if trusted is None else demand(trusted, now, lead_s + rule.unneeded_s, rule.pool_quantile),
        lead_s=lead_s,
        lead_from=lead_from,
        unforeseen=unforeseen,
    )


def grow(snapshot: Snapshot, pool: Pool, room: Room, asked: Asked, ordered: int) -> tuple[int, str]:
    """Nodes that take work and are needed now or within a start-up, and why."""
    held = promised(pool, snapshot.cluster, snapshot.reservations, snapshot.now + asked.lead_s)
    size, needed, why = room.gpus_per_node, 0, "demand is not known"
    if asked.now is not None:
        now = asked_now(pool, snapshot.cluster, room, asked.now) + ordered
        needed = max(0, math.ceil((now + held) / size))
        why = f"{now:g} GPUs asked for and {held:g} promised need {needed} nodes of {size}"
    scattered = short(pool, snapshot.cluster, room)
    if scattered and room.usable + scattered > needed:
        needed = room.usable + scattered
        why = f"waiting jobs fit no node: {scattered} more"
    ahead = 0 if asked.ahead is None else math.ceil((asked.ahead - room.kept + held) / size)
    if ahead > needed:
        needed, why = ahead, f"{asked.ahead:.4g} GPUs within {asked.lead_s:.0f} s need {ahead} nodes of {size}"
    return needed, why


def asked_now(pool: Pool, cluster: Cluster, room: Room, sampled: float) -> float:
    """GPUs asked of nodes that take work: less what runs on cordoned ones, which a sample may have outlived by a cycle."""
    seen = dict(pools(cluster)) if room.idle_on else {}
    return min(sampled, seen.get(SeriesKey.of(DEMANDED, pool=pool.name), sampled)) - room.kept


def shrink(snapshot: Snapshot, pool: Pool, room: Room, asked: Asked, rule: Rule) -> tuple[tuple[str, ...], str]:
    """Names of the nodes that go, none where they are needed or nothing is known; and why."""
    cluster = snapshot.cluster
    if asked.peak is None:
        return (), "demand is stale or missing: nothing is taken away"
    if room.blind:
        return (), f"where {room.blind} runs is not told: nothing is taken away"
    if fitting(pool, cluster, room):
        return (), "jobs wait: nothing is taken away"
    held = promised(pool, cluster, snapshot.reservations, snapshot.now + asked.lead_s + rule.unneeded_s)
    most = max(asked.peak, asked.later or 0.0) - room.kept + held
    unused = room.usable - math.ceil(most / room.gpus_per_node)
    spare = min(unused, pool.nodes - pool.min_nodes, at_once(snapshot, room, rule))
    if spare <= 0 or room.starting:
        return (), f"{most:.4g} GPUs in the last {rule.unneeded_s:.0f} s, promised or ahead: none is spare"
    gone = empty(pool, cluster, snapshot.reservations)[:spare]
    return gone, f"no more than {most:.4g} GPUs in the last {rule.unneeded_s:.0f} s, promised or ahead: {len(gone)} empty go"


def at_once(snapshot: Snapshot, room: Room, rule: Rule) -> int:
    """Nodes that may go in one step: what the safety limits let go without anybody's approval, at least one."""
    limits = Limits.from_settings(snapshot.limits, "snapshot")
    unasked = (limits.approve_gpus - 1) // room.gpus_per_node
    share = min(limits.nodes_ratio, limits.idle_nodes_ratio)
    return max(1, min(rule.remove_at_once, int(share * (room.usable - room.starting + room.idle_on)), unasked))


def asked_lately(snapshot: Snapshot, pool: Pool, target: int, within_s: float) -> bool:
    """Whether the last order within a start-up was for so many nodes: some clusters show a node only once it is there."""
    mine = [e.admission for e in snapshot.history if e.state in OPEN_OR_DONE and 0 <= snapshot.now - e.admission.at < within_s]
    actions = [(one.at, one.decision.action) for one in mine]
    orders = [(at, a.was, a.nodes) for at, a in actions if isinstance(a, ScalePool) and a.pool == pool.name]
    _, was, nodes = max(orders, default=(0.0, 0, 0))
    return nodes >= target > was


def decision(pool: Pool, action: ScalePool, told: tuple[str, str, Asked]) -> Decision:
    """The wish in words; `told` is (policy, why, what is asked)."""
    policy, why, asked = told
    going = f" ({', '.join(action.remove)})" if action.remove else ""
    now = "stale or missing" if asked.now is None else f"{asked.now:.6g} GPUs"
    foreseen = f"forecast not used: {asked.unforeseen}" if asked.unforeseen else f"demand ahead {asked.ahead:.6g} GPUs"
    return Decision(
        policy=policy,
        action=action,
        reason=f"pool {pool.name}: {action.was} -> {action.nodes} nodes{going}: {why}",
        evidence=(f"demand {now} for {action.was} nodes", f"lead {asked.lead_s:.0f} s ({asked.lead_from})", foreseen),
        expect=f"pool {pool.name} has {action.nodes} nodes",
        within_s=asked.lead_s + SETTLE_S,
        inputs_at=asked.at,
    )
