"""Services: from what is wanted and what was seen to the next state. Pure; the processes follow in `supervise.py`.

Crashed replicas come back with exponential backoff. A replica that has to leave (its node drains, its declaration changed)
leaves only once enough others are ready. Scaling down removes those that have to leave, then unready, then newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from aiops.backends.local import place
from aiops.backends.local.declare import ServiceSpec
from aiops.backends.local.state import Phase, ServiceRecord, State, Unit
from aiops.model import Node, NodeState

_BACKOFF_S, _BACKOFF_MOST_S = 1.0, 300.0  # Kubernetes caps at 300 s; one machine may begin at 1 s instead of 10
_WELL_S = 600.0  # a replica that ran this long ends a crash loop (Kubernetes: 10 minutes)
_START_KEPT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look found: exit code by gone unit (None where unknown), and answered health checks."""

    gone: Mapping[str, int | None]
    healthy: Mapping[str, bool]


def declare(state: State, specs: Mapping[str, ServiceSpec], new_uid: Callable[[], str]) -> State:
    """With a record for each newly declared service; one no longer declared is left alone, units and all."""
    for name, spec in specs.items():
        if name not in state.services:
            state = state.with_service(name, ServiceRecord(uid=new_uid(), version=1, replicas=spec.replicas))
        record = state.services[name]
        bounded = min(max(record.replicas, spec.min), spec.max)
        if bounded != record.replicas:
            state = state.with_service(name, replace(record, replicas=bounded, version=record.version + 1, by="declaration"))
    return state


def settle(state: State, name: str, spec: ServiceSpec, seen: Seen, now: float) -> State:
    """With gone replicas removed and counted, and readiness as answered."""
    for unit in list(state.owned(f"service/{name}")):
        if unit.id in seen.gone:
            state = _ended(state.without_unit(unit.id), name, unit, seen.gone[unit.id], now)
        elif unit.phase is Phase.RUNNING:
            well = seen.healthy.get(unit.id) if spec.health else True
            state = state if well is None else _answered(state, name, unit, well, now)
            state = _too_long(state, spec, state.units[unit.id], now)
    return state


def _ended(state: State, name: str, unit: Unit, code: int | None, now: float) -> State:
    if unit.phase is Phase.STOPPING and not unit.why:
        return state
    record = state.services[name]
    if unit.phase is Phase.SPAWNING and code is None:
        return state  # its launcher never came to run it: nothing crashed
    ran_well = unit.ready_at is not None and now - unit.ready_at >= _WELL_S
    crashes = 1 if ran_well else record.crashes + 1
    wait = min(_BACKOFF_MOST_S, _BACKOFF_S * 2.0 ** min(crashes - 1, 20))
    how = unit.why or (f"exit {code}" if code is not None else "ended unseen")
    changed = replace(
        record,
        crashes=crashes,
        restarts=record.restarts + 1,
        not_before=now + wait,
        reason=f"{unit.id}: {how}, {crashes} in a row",
    )
    return state.with_service(name, changed)


def _answered(state: State, name: str, unit: Unit, well: bool, now: float) -> State:
    if not well:
        return state.with_unit(replace(unit, ready=False, unready_since=unit.unready_since or now))
    if unit.ready_at is None:
        record = state.services[name]
        start_s = (*record.start_s, max(0.0, now - unit.spawned_at))[-_START_KEPT:]
        state = state.with_service(name, replace(record, start_s=start_s))
    record = state.services[name]
    since = unit.ready_at if unit.ready_at is not None else now
    if record.crashes and now - since >= _WELL_S:
        state = state.with_service(name, replace(record, crashes=0, reason=""))
    return state.with_unit(replace(unit, ready=True, ready_at=since, unready_since=None))


def _too_long(state: State, spec: ServiceSpec, unit: Unit, now: float) -> State:
    """Replace a replica that never became ready, or has not been for too long: it hangs."""
    if spec.health is None or unit.ready:
        return state
    if unit.ready_at is None and now - unit.spawned_at > spec.health.start_timeout:
        return state.with_unit(stopping(unit, spec, now, f"not ready after {spec.health.start_timeout:g} s"))
    if unit.unready_since is not None and unit.ready_at is not None and now - unit.unready_since > spec.health.restart_after:
        return state.with_unit(stopping(unit, spec, now, f"unready for {spec.health.restart_after:g} s"))
    return state


def stopping(unit: Unit, spec: ServiceSpec, now: float, why: str = "") -> Unit:
    """The unit on its way out: a ready one first drains; `why` marks a fault, not a wish."""
    term_at = now + (spec.drain if unit.ready else 0.0)
    return replace(unit, phase=Phase.STOPPING, ready=False, term_at=term_at, kill_at=term_at + spec.kill_wait, why=why)


def plan(state: State, name: str, spec: ServiceSpec, nodes: tuple[Node, ...], now: float) -> State:
    """With replicas marked to stop, and new ones SPAWNING where there is room, towards the wanted number."""
    record = state.services[name]
    draining = {node.name for node in nodes if node.state is not NodeState.READY and node.state is not NodeState.CORDONED}
    live = [unit for unit in state.owned(f"service/{name}") if unit.phase is not Phase.STOPPING]
    leaving = [unit for unit in live if unit.digest != spec.digest or draining & set(unit.nodes)]
    staying = [unit for unit in live if unit not in leaving]
    for unit in _surplus(record.replicas, staying, leaving):
        state = state.with_unit(stopping(unit, spec, now))
    return _spawn(state, name, spec, nodes, (record.replicas - len(staying), now))


def _surplus(wanted: int, staying: list[Unit], leaving: list[Unit]) -> list[Unit]:
    """Those to stop now: newest unready first among the staying; leaving ones as far as ready others make up for them."""
    too_many = max(0, len(staying) - wanted)
    order = sorted(staying, key=lambda unit: (unit.ready, -unit.spawned_at, unit.id))
    ready = sum(unit.ready for unit in staying)
    still_needed = max(0, wanted - ready)
    excess = max(0, len(leaving) - still_needed)
    return order[:too_many] + sorted(leaving, key=lambda unit: (unit.ready, unit.spawned_at))[:excess]


def _spawn(state: State, name: str, spec: ServiceSpec, nodes: tuple[Node, ...], want: tuple[int, float]) -> State:
    missing, now = want
    record = state.services[name]
    if missing <= 0 or now < record.not_before:
        return state
    for _ in range(missing):
        owner = f"service/{name}"
        wish = place.Want(
            owner=owner, gpus=spec.gpus, gpu_type=spec.gpu_type, cpu_cores=spec.cpu_cores, memory_bytes=spec.memory
        )
        found = place.choose(wish, nodes, place.taken(state), state.holds.values())
        if found is None:
            return state.with_service(name, replace(record, reason="no capacity for another replica"))
        state = replace(state, serial=state.serial + 1)
        state = state.with_unit(
            Unit(
                id=f"{name}.{state.serial}", owner=owner, digest=spec.digest, nodes=found.nodes, gpus=found.gpus,
                cpu_cores=spec.cpu_cores, memory_bytes=spec.memory, spawned_at=now,
            )
        )  # fmt: skip
    if record.reason.startswith("no capacity"):
        state = state.with_service(name, replace(record, reason=""))
    return state
