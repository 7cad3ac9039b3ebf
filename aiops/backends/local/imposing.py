"""Caps and guarantees on links, imposed on the running units as far as this kernel lets us; whatever it does not, is accounted.

A disk's cap and guarantee by the block controller (`disks.py`), a NIC's by tc on what is sent (`shaping.py`) and by dropping on
what is received (`packets.py`). An owner's share is split evenly among its units. May be repeated at will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiops.backends.local import shaping
from aiops.backends.local.cgroups import Cgroups
from aiops.backends.local.declare import LinkSpec
from aiops.backends.local.disks import Disks, device_number, ratios
from aiops.backends.local.packets import Packets, device_index
from aiops.backends.local.shaping import Shaper
from aiops.backends.local.state import ShareRecord, State, Unit
from aiops.backends.local.usage import Counts, Key, Usage

Owners = frozenset[str]
Shares = Mapping[str, ShareRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imposed:
    """Owners on one link whose cap, guarantee, and cap on what is received the kernel imposes."""

    caps: Owners = frozenset()
    sure: Owners = frozenset()
    received: Owners = frozenset()


class Imposer:
    """Knows the declared links and what can be imposed on each; `group` names a unit's control groups."""

    def __init__(
        self, links: Mapping[str, LinkSpec], tools: tuple[Cgroups, Shaper], group: Callable[[str], str]
    ) -> None:  # fmt: skip
        self._links, (self._cgroups, self._shaper), self._group = links, tools, group
        self._disks = Disks(self._cgroups)
        self._packets = Packets.detect(self._shaper.groups)
        self._usage = Usage()
        self._capped: dict[str, Owners] = {}  # owners with a cap at the last look, by link
        self._weighed: dict[str, Mapping[str, float]] = {}  # ratio per unit at the last look, by link

    def impose(self, name: str, state: State) -> Imposed:
        """Make the kernel's limits on a link those of the state."""
        link = self._links[name]
        caps, sure = _shares(state.caps, name), _shares(state.guarantees, name)
        if link.kind == "nic":
            return self._shape(name, state, caps, sure)
        number = _disk(link)
        if number is None:
            return Imposed()
        return Imposed(caps=self._throttled(name, number, state, caps), sure=self._weigh(name, number, state, sure))

    # -- disks ---------------------------------------------------------------------------------------------------------

    def _throttled(self, name: str, number: str, state: State, caps: Shares) -> Owners:
        before = self._capped.get(name, frozenset(unit.owner for unit in state.units.values()))  # a crash may have cut a lift
        self._capped[name] = frozenset(caps)
        for owner in before - caps.keys():
            self._throttle(_units(state, owner), number, None)
        return frozenset(owner for owner, row in caps.items() if self._throttle(_units(state, owner), number, row.bytes_per_s))

    def _throttle(self, units: list[Unit], number: str, bytes_per_s: float | None) -> bool:
        each = None if bytes_per_s is None else bytes_per_s / max(1, len(units))
        imposed = [self._disks.throttle(self._group(unit.id), number, each) for unit in units]
        return all(imposed)

    def _weigh(self, name: str, number: str, state: State, sure: Shares) -> Owners:
        """Weights of all units by the guarantees on this disk, and of all together against the rest of the machine."""
        if self._disks.weights(number) is None:
            self._weighed.pop(name, None)
            return frozenset()
        owners = {owner: _units(state, owner) for owner in sure}
        wanted = ratios(state.units.values(), self._links[name].capacity, owners, sure) if sure else {}
        before = self._weighed.get(name)
        if before != wanted:
            every = dict.fromkeys(state.units) | wanted if not sure or before is None else wanted
            together = self._disks.weigh("", number, 1.0 if sure else None)
            done = {unit: ratio for unit, ratio in every.items() if self._disks.weigh(self._group(unit), number, ratio)}
            self._weighed[name] = {unit: ratio for unit, ratio in done.items() if together and ratio is not None}
        held = self._weighed.get(name, {})
        return frozenset(owner for owner, mine in owners.items() if all(unit.id in held for unit in mine))

    # -- NICs ----------------------------------------------------------------------------------------------------------

    def _shape(self, name: str, state: State, caps: Shares, sure: Shares) -> Imposed:
        link = self._links[name]
        units = {owner: _units(state, owner) for owner in caps.keys() | sure.keys()}
        marked = {owner: mine for owner, mine in units.items() if all(self._shaper.marked(self._group(u.id)) for u in mine)}
        plan = shaping.rates(marked, link.capacity, caps, sure)
        laid = frozenset(marked) if self._shaper.lay(link.device or name, link.capacity, plan) else frozenset()
        refused = self._police(state)
        policed = {owner for owner in marked if not any(unit.id in refused for unit in units[owner])}
        return Imposed(caps=laid & caps.keys(), sure=laid & sure.keys(), received=frozenset(policed & caps.keys()))

    def _police(self, state: State) -> frozenset[str]:
        """Count packets, and drop those received above a cap, on all NICs; units for which that was refused."""
        wanted: dict[str, dict[int, float | None]] = {unit: {} for unit in state.units}
        for name, link in self._links.items():
            index = device_index(link.device or name) if link.kind == "nic" else None
            caps, sure = _shares(state.caps, name), _shares(state.guarantees, name)
            for owner in sorted(caps.keys() | sure.keys()) if index is not None else ():
                mine = _units(state, owner)
                for unit in mine:
                    wanted[unit.id][index or 0] = caps[owner].bytes_per_s / len(mine) if owner in caps else None
        laid = {unit: self._packets.lay(self._group(unit), devices) for unit, devices in wanted.items()}
        return frozenset(unit for unit, devices in wanted.items() if devices and not laid[unit])

    # -- what is told --------------------------------------------------------------------------------------------------

    def enforced(self) -> dict[str, str]:
        """Links on which caps are imposed by the kernel, each with what is only accounted there, in words."""
        out: dict[str, str] = {}
        for name, link in self._links.items():
            number = _disk(link)
            if number is not None and self._disks.caps(number):
                out[name] = "" if self._disks.weights(number) else "guarantees: this disk's scheduler heeds no weights"
            elif link.kind == "nic" and self._shaper.may(link.device or name):
                out[name] = "guarantees on what is received" if self._packets.can else "what is received"
        return out

    def measure(self, state: State, at: float) -> None:
        """Read the counters of every unit whose owner has a share of a link; `at` is steady."""
        counts: dict[Key, Counts] = {}
        for row in (*state.caps.values(), *state.guarantees.values()):
            link = self._links.get(row.link)
            for unit in _units(state, row.owner) if link is not None else ():
                found = self._counted(row.link, link, unit) if link is not None else None
                if found is not None:
                    counts[row.link, unit.id] = found
        self._usage.note(at, counts)

    def _counted(self, name: str, link: LinkSpec, unit: Unit) -> Counts | None:
        if link.kind == "nic":
            index = device_index(link.device or name)
            return None if index is None else self._packets.counted(self._group(unit.id), index)
        number = _disk(link)
        served = None if number is None else self._disks.served(self._group(unit.id), number)
        return None if served is None else (served,)

    def used(self, state: State, link: str, owner: str) -> float | None:
        """Bytes per second that an owner's units had of a link over the last minute, None where that is not counted."""
        return self._usage.rate(link, [unit.id for unit in _units(state, owner)])

    def leave(self, unit: str) -> None:
        """Drop what a unit that is gone had; a group that still has processes stays."""
        self._packets.forget(self._group(unit))
        self._cgroups.remove(self._group(unit))
        self._shaper.leave(self._group(unit))

    def close(self) -> None:
        """Let go of descriptors; what is imposed stays in force."""
        self._packets.close()


def _disk(link: LinkSpec) -> str | None:
    return device_number(link.device) if link.kind in ("device", "storage") and link.device else None


def _shares(rows: Mapping[str, ShareRecord], link: str) -> dict[str, ShareRecord]:
    return {row.owner: row for row in rows.values() if row.link == link}


def _units(state: State, owner: str) -> list[Unit]:
    return [unit for unit in state.units.values() if owner in (unit.owner, unit.owner.partition("/")[2])]
