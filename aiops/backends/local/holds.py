"""What time does to two-phase holds: they expire, unless victims still drain for them. Pure.

A preemption that names a hold (`bind_to`) frees capacity for it. The ledger renews such a hold in every cycle
(`decide/holds.py`); here it is renewed likewise, also while no daemon is there to say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiops.backends.local.state import HoldRecord, Phase, State

TERM_S = 30.0  # policy.md 21, and what `decide/holds.py` renews by
CAP_S = 900.0  # the ledger's default: a victim that never ends does not bind capacity for ever


def step(state: State, now: float) -> State:
    """Holds renewed for which a unit is still stopping, those past their term gone."""
    awaited = {unit.frees_for for unit in state.units.values() if unit.phase is Phase.STOPPING}
    kept = {name: _renewed(hold, now) if name in awaited else hold for name, hold in state.holds.items()}
    alive = {name: hold for name, hold in kept.items() if hold.confirmed or hold.expires_at > now}
    return state if alive == state.holds else replace(state, holds=alive)


def _renewed(hold: HoldRecord, now: float) -> HoldRecord:
    """One term from now on; written once a cycle's worth has passed, not at every look."""
    until = min(hold.hard_cap_at, now + TERM_S)
    return hold if hold.confirmed or until - hold.expires_at < TERM_S / 3 else replace(hold, expires_at=until)


def owned_by(hold: HoldRecord, owner: str) -> bool:
    """True where `owner` (`job/NAME`) is whom the hold is for; policies name a job by its id alone."""
    return hold.owner in (owner, owner.partition("/")[2])


def bandwidth(holds: Mapping[str, HoldRecord], link: str, owner: str) -> float:
    """Bytes per second that live holds of others than `owner` bind on exactly this link."""
    return sum(hold.bandwidth_bytes_per_s.get(link, 0.0) for hold in holds.values() if not owned_by(hold, owner))
