"""Caps and guarantees on links, imposed on the running units as far as this kernel lets us; whatever it does not, is accounted.

A disk's cap by the block-device controller (reads and writes), a NIC's caps and guarantees by tc (what is sent). An owner's
share is split evenly among its units. May be repeated at will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiops.backends.local import shaping
from aiops.backends.local.cgroups import Cgroups, device_number
from aiops.backends.local.declare import LinkSpec
from aiops.backends.local.shaping import Shaper
from aiops.backends.local.state import ShareRecord, State, Unit


class Imposer:
    """Knows the declared links and what can be imposed on each; `group` names a unit's control groups."""

    def __init__(
        self, links: Mapping[str, LinkSpec], tools: tuple[Cgroups, Shaper], group: Callable[[str], str]
    ) -> None:  # fmt: skip
        self._links, (self._cgroups, self._shaper), self._group = links, tools, group
        self._capped: dict[str, frozenset[str]] = {}  # owners with a cap at the last look, by link

    def impose(self, name: str, state: State) -> frozenset[str]:
        """Make the kernel's limits on a link those of the state; owners for whom all that is wanted is really imposed."""
        link = self._links[name]
        caps = {row.owner: row for row in state.caps.values() if row.link == name}
        sure = {row.owner: row for row in state.guarantees.values() if row.link == name}
        if link.kind == "nic":
            return self._shape(name, state, caps, sure)
        if link.kind not in ("device", "storage") or not link.device or (number := device_number(link.device)) is None:
            return frozenset()
        before = self._capped.get(name, frozenset(unit.owner for unit in state.units.values()))  # a crash may have cut a lift
        self._capped[name] = frozenset(caps)
        for owner in before - caps.keys():
            self._throttle(_units(state, owner), number, None)
        capped = {owner for owner, row in caps.items() if self._throttle(_units(state, owner), number, row.bytes_per_s)}
        return frozenset(capped - sure.keys())  # a rate cannot be guaranteed on a disk: that stays accounted

    def _shape(
        self, name: str, state: State, caps: Mapping[str, ShareRecord], sure: Mapping[str, ShareRecord]
    ) -> frozenset[str]:  # fmt: skip
        link = self._links[name]
        units = {owner: _units(state, owner) for owner in caps.keys() | sure.keys()}
        marked = {owner: mine for owner, mine in units.items() if all(self._shaper.marked(self._group(u.id)) for u in mine)}
        plan = shaping.rates(marked, link.capacity, caps, sure)
        return frozenset(marked) if self._shaper.lay(link.device or name, link.capacity, plan) else frozenset()

    def _throttle(self, units: list[Unit], number: str, bytes_per_s: float | None) -> bool:
        each = None if bytes_per_s is None else bytes_per_s / max(1, len(units))
        imposed = [self._cgroups.throttle(self._group(unit.id), number, each) for unit in units]
        return all(imposed)

    def enforced(self) -> frozenset[str]:
        """Links on which caps are imposed by the kernel."""
        disks = [(n, k.device) for n, k in self._links.items() if k.kind in ("device", "storage") and k.device]
        held = {name for name, device in disks if "io" in self._cgroups.places and device_number(device)}
        nics = [(name, link.device or name) for name, link in self._links.items() if link.kind == "nic"]
        return frozenset(held | {name for name, device in nics if self._shaper.may(device)})


def _units(state: State, owner: str) -> list[Unit]:
    return [unit for unit in state.units.values() if owner in (unit.owner, unit.owner.partition("/")[2])]
