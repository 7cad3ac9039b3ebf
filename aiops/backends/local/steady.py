"""A wall clock that jumps ends no deadline early and keeps none for ever: the deadlines move with it. Pure.

Deadlines lie on disk as wall times, for people and for the next daemon. The state remembers how far the wall clock was
ahead of the machine's steady one; where that has changed, someone stepped the clock, and every deadline is moved by as much.
"""

from __future__ import annotations

from dataclasses import replace

from aiops.backends.local.state import HoldRecord, Mark, ServiceRecord, State, Unit

_NOISE_S = 1.0  # NTP slews by 0.5 ms a second at most: less than this is not a step
_BACKOFF_MOST_S = 300.0


def corrected(state: State, now: float, elapsed: float, boot: str) -> State:
    """The state with its deadlines on the wall clock as it goes now; `elapsed` counts seconds since this boot."""
    mark, ahead = state.mark, now - elapsed
    if mark is not None and mark.boot_id == boot and abs(ahead - mark.ahead_s) <= _NOISE_S:
        return state
    fresh = replace(state, mark=Mark(boot_id=boot, ahead_s=ahead))
    if mark is None:
        return fresh
    return shifted(fresh, ahead - mark.ahead_s) if mark.boot_id == boot else _rebooted(fresh, now)


def shifted(state: State, by: float) -> State:
    """With every running term moved by `by` seconds; moments that are only told to people stay."""
    return replace(
        state,
        holds={name: _hold(hold, by) for name, hold in state.holds.items()},
        units={name: _unit(unit, by) for name, unit in state.units.items()},
        services={name: replace(row, not_before=row.not_before + by) for name, row in state.services.items()},
    )


def _rebooted(state: State, now: float) -> State:
    """After another boot nobody knows how long it took: two-phase holds are over, and no backoff exceeds its longest."""
    return replace(
        state,
        holds={name: hold for name, hold in state.holds.items() if hold.confirmed},
        services={name: _waiting(row, now) for name, row in state.services.items()},
    )


def _waiting(row: ServiceRecord, now: float) -> ServiceRecord:
    return replace(row, not_before=min(row.not_before, now + _BACKOFF_MOST_S))


def _hold(hold: HoldRecord, by: float) -> HoldRecord:
    moved = replace(hold, since=hold.since + by, hard_cap_at=hold.hard_cap_at + by)
    return moved if hold.confirmed else replace(moved, expires_at=hold.expires_at + by)


def _unit(unit: Unit, by: float) -> Unit:
    def moved(at: float | None) -> float | None:
        return None if at is None else at + by

    return replace(
        unit, spawned_at=unit.spawned_at + by, ready_at=moved(unit.ready_at), unready_since=moved(unit.unready_since),
        term_at=moved(unit.term_at), kill_at=moved(unit.kill_at),
    )  # fmt: skip
