"""One cycle of the autopilot, top to bottom.

    1 observe   the backend's whole cluster, or the cycle abstains and says why
    2 view      everything the decision may depend on, frozen into one Snapshot
    3 decide    the pure core: settle open actions, ask the due policies, admit
    4 record    durably, before anything is done
    5 act       one backend call per permitted action, each ledgered before and after
    6 notify    hand what happened to the outbox

Three laws. There is one `now`, taken by the caller. Nothing is done that is not recorded first. Nothing here waits:
no sleep, no retry, no queue; an unfinished action is judged by a later cycle's first look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from aiops import __version__
from aiops.action import Admission, Entry, EntryState, Mode, Outcome, Receipt
from aiops.clock import Clock
from aiops.decide.core import decide
from aiops.errors import Temporary
from aiops.model import Cluster, Forecast, Series
from aiops.ports import Backend, Policy, Store
from aiops.snapshot import Decided, Need, Snapshot, query_id

HISTORY_S = 86400.0  # the longest window that budgets and cooldowns may look back
FORECASTS_S = 3600.0  # older forecasts are not worth carrying; policies judge age themselves
CENSUS_S = 3600.0  # how long a node that was seen is missed (safety.md I11: vanished at once)
STEPS_S = 3600.0  # how long a jump of the wall clock makes recorded ages doubtful
SLEW_S = 0.5  # NTP slews at most 500 ppm: less than this between two cycles is no jump
log = structlog.get_logger("aiops.loop")


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a cycle works with. `halted` is the kill switch, `leads` says whether this daemon may still send effects."""

    store: Store
    backend: Backend
    policies: Mapping[str, Policy]
    clock: Clock
    modes: Mapping[str, Mode]
    rules: Mapping[str, Any]
    limits: Mapping[str, Any]
    halted: Callable[[], bool]
    leads: Callable[[], bool]
    announce: Callable[[Snapshot, Decided], None]


@dataclass(slots=True)
class Memory:
    """Caches between cycles, all of which may be lost: when policies ran, census, clocks, cluster, why it abstained."""

    epoch: int | None = None
    ran_at: dict[str, float] = field(default_factory=dict)
    census: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    wall: float | None = None
    elapsed: float | None = None
    steps: list[tuple[float, float]] = field(default_factory=list)
    cluster: Cluster | None = None
    abstained: str = ""


def run_cycle(house: House, memory: Memory, now: float, epoch: int) -> Decided | None:
    """Run one cycle at `now` under `epoch`; what was decided, or None where the cycle had to abstain."""
    started = house.clock.elapsed()
    try:
        step_s = _wall_step(house.store, memory, now, started, memory.epoch != epoch)
        cluster = house.backend.observe(now)  # 1
        memory.cluster = cluster
        snapshot = view(house, memory, cluster, epoch, step_s)  # 2
    except Temporary as error:
        log.warning("cycle abstains", reason=str(error))
        memory.abstained = str(error)
        return None
    decided = decide(snapshot, house.policies)  # 3
    house.store.record(snapshot, decided)  # 4
    memory.ran_at.update(dict.fromkeys(snapshot.due, started))  # not before: what was not recorded is still due
    if decided.breaker_at != snapshot.breaker_at:
        house.store.put_state("breaker", repr(decided.breaker_at).encode())  # lost by a crash: history tells it again
    sent = act(house, snapshot, decided)  # 5
    house.announce(snapshot, decided)  # 6
    log.info(
        "cycle",
        id=snapshot.id,
        due=len(snapshot.due),
        decisions=len(decided.decisions),
        refused=sum(a.denied is not None for a in decided.admissions),
        sent=sent,
        failed=list(decided.failed),
        seconds=round(house.clock.elapsed() - started, 3),
    )
    return decided


def _wall_step(store: Store, memory: Memory, now: float, elapsed: float, fresh: bool) -> float:
    """Seconds by which the wall clock jumped against the monotonic one in the last hour; slewing is no jump.

    Jumps are kept in the store, so that a restart or another leader knows them too. How long ago one was, only its wall time
    tells then: a clock that went back makes it new.
    """
    if fresh and not memory.steps:
        memory.steps = [(elapsed - max(0.0, now - at), step) for at, step in orjson.loads(store.state("steps") or b"[]")]
    memory.steps = [seen for seen in memory.steps if elapsed - seen[0] < STEPS_S]
    if memory.wall is not None and memory.elapsed is not None:
        step = (now - memory.wall) - (elapsed - memory.elapsed)
        if abs(step) > SLEW_S:
            memory.steps = [*memory.steps, (elapsed, abs(step))]
            store.put_state("steps", orjson.dumps([(now - (elapsed - at), by) for at, by in memory.steps]))
    memory.wall, memory.elapsed = now, elapsed
    return sum(step for _, step in memory.steps)


def view(house: House, memory: Memory, cluster: Cluster, epoch: int, wall_step_s: float) -> Snapshot:
    """Freeze what the due policies declared they need, and everything that settle and admit look at."""
    now, store = cluster.at, house.store
    if memory.epoch != epoch:
        recall(store, memory, now, house.clock.elapsed())
        memory.epoch = epoch
    due = _due(house.policies, memory, house.clock.elapsed())
    needs = [need for name in due for need in house.policies[name].needs(cluster)]
    series = {query_id(need.query): store.read(need.query, now) for need in needs}
    history = store.entries(now - HISTORY_S - wall_step_s)  # a clock that jumped a day ahead must not forget what was just done
    return Snapshot(
        id=f"{epoch}-{now:.3f}",
        now=now,
        epoch=epoch,
        cluster=cluster,
        due=due,
        series=series,
        forecasts=_forecasts(store.forecasts(now - FORECASTS_S), cluster, series),
        findings=store.findings(),
        diagnosed_at=store.diagnosed_at(),
        reservations=store.reservations(),
        history=history,
        effects={e.admission.id: house.backend.probe(e.admission, now) for e in history if is_open(e)},
        orders=store.orders(now),
        census=_census(memory, cluster, house.clock.elapsed()),
        wall_step_s=wall_step_s,
        breaker_at=_latched(store),
        modes=house.modes,
        rules=house.rules,
        limits=house.limits,
        supports=tuple(sorted(house.backend.supports)),
        version=__version__,
    )


def is_open(entry: Entry) -> bool:
    """True while an entry has not reached a terminal state."""
    return entry.state in (EntryState.INTENT, EntryState.SENT)


def _due(policies: Mapping[str, Policy], memory: Memory, elapsed: float) -> tuple[str, ...]:
    """Policies whose period has passed, in configured order; half a second early counts, so that ticks do not drift."""
    return tuple(name for name, policy in policies.items() if elapsed - memory.ran_at.get(name, -1e18) >= policy.every_s - 0.5)


def _forecasts(
    newest: tuple[Forecast, ...], cluster: Cluster, series: Mapping[str, tuple[Series, ...]]
) -> tuple[Forecast, ...]:
    """Only forecasts of the services' loads and of series that a due policy looks at: all would bloat every recorded cycle."""
    wanted = {str(one.key) for found in series.values() for one in found} | {str(s.load) for s in cluster.services}
    return tuple(f for f in newest if f.target in wanted)


def _latched(store: Store) -> float | None:
    """When the breaker tripped, as kept by an earlier cycle."""
    kept = store.state("breaker")
    return None if kept in (None, b"None") else float(kept)


def recall(store: Store, memory: Memory, now: float, elapsed: float) -> None:
    """Before the first cycle of an epoch: the newest recorded census, so that a rack that vanished meanwhile is missed.

    The wall clock may have gone back while no daemon ran: a cycle from the future was recorded just now, not never.
    """
    ids = store.cycles(now - CENSUS_S, math.inf)
    if not ids:
        return
    last, _ = store.cycle(ids[-1])
    seen_at = elapsed - max(0.0, now - last.now)
    for pool, count in last.census.items():
        memory.census.setdefault(pool, []).append((seen_at, count))


def _census(memory: Memory, cluster: Cluster, elapsed: float) -> dict[str, int]:
    """Most nodes seen per pool within the last hour, so that a vanished rack is noticed (safety.md I11)."""
    counts: dict[str, int] = {}
    for node in cluster.nodes:
        counts[node.pool] = counts.get(node.pool, 0) + 1
    for pool in counts.keys() | memory.census.keys():
        kept = [seen for seen in memory.census.get(pool, []) if elapsed - seen[0] < CENSUS_S]
        memory.census[pool] = [*kept, (elapsed, counts.get(pool, 0))]
    return {pool: max(count for _, count in seen) for pool, seen in memory.census.items()}


def act(house: House, snapshot: Snapshot, decided: Decided) -> int:
    """Send every permitted action and every proven-absent one again; stops at once when halted or no longer leading."""
    again = {entry.admission.id: entry.admission for entry in snapshot.history if entry.admission.id in decided.resend}
    sent = 0
    for admission in (*again.values(), *(a for a in decided.admissions if a.permitted)):
        if house.halted() or not house.leads():
            log.warning("not sent", id=admission.id, halted=house.halted(), leads=house.leads())
            break
        send(house, admission, snapshot.now)
        sent += 1
    return sent


def send(house: House, admission: Admission, now: float) -> Receipt:
    """Ledger SENT, call the backend once, ledger the answer. DONE stays open until a later look confirms it."""
    house.store.advance(admission.id, EntryState.SENT, now)
    receipt = house.backend.apply(admission, now)
    failed = receipt.outcome in (Outcome.STALE, Outcome.UNSUPPORTED, Outcome.FAILED)
    house.store.advance(admission.id, EntryState.FAILED if failed else EntryState.SENT, now, receipt)
    return receipt


def needs_of(policies: Mapping[str, Policy], cluster: Cluster) -> tuple[Need, ...]:
    """Everything that any policy wants to see: what the forecasts beside the loop are made for."""
    return tuple(need for policy in policies.values() for need in policy.needs(cluster))
