"""What aiops itself has promised on this cluster: holds, shares and caps of links, and pools asked to grow. One ConfigMap.

Kubernetes has no object for any of these. One object for all of them means that a promise over several dimensions is one
guarded write, whole or not at all, and that `kubectl -n aiops get configmap aiops-account -o yaml` shows every promise.
Each row names the actions that made it what it is. What imposes a promise (placeholder pods) is not this module's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiops import codec
from aiops.action import Outcome
from aiops.backends.kubernetes import marks
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import CONFIG_MAPS

NAME, _KEY = "aiops-account", "account.json"
_IDS = 8  # actions remembered per row: a hold sees three in its life, and each renewal is one more
_FORGET_S = 86_400.0  # how long an ended hold's fence is remembered, so that a late action cannot bring it back


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRow:
    """A hold. `by` are the ids of the actions that made it so, newest first; times are Unix seconds.

    `yielded`: its placeholders have got the room, and have left it to the owner's pods.
    """

    owner: str
    fence: int
    nodes: tuple[str, ...]
    gpus: int
    expires_at: float
    cpu_cores: float = 0.0
    bandwidth_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    active: bool = False
    released: bool = False
    yielded: bool = False
    by: tuple[str, ...] = ()

    def live(self, now: float) -> bool:
        """Whether it binds capacity at `now`."""
        return not self.released and (self.active or self.expires_at > now)

    def on(self, node: str) -> int:
        """GPUs that it binds on one of its nodes: as even as whole GPUs can be, the first nodes bearing the rest."""
        if node not in self.nodes:
            return 0
        each, rest = divmod(self.gpus, len(self.nodes))
        return each + (self.nodes.index(node) < rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """A guarantee or a cap of one owner on one link; None is a cap that was lifted, zero a guarantee that was released."""

    link: str
    owner: str
    bytes_per_s: float | None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """How many nodes a pool was last asked to have."""

    nodes: int
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All promises. Keys of `shares` and `caps` are `link owner`."""

    holds: Mapping[str, HoldRow] = field(default_factory=dict)
    shares: Mapping[str, ShareRow] = field(default_factory=dict)
    caps: Mapping[str, ShareRow] = field(default_factory=dict)
    pools: Mapping[str, PoolRow] = field(default_factory=dict)

    def live(self, now: float) -> tuple[str, ...]:
        """Names of the holds that bind capacity at `now`, in order."""
        return tuple(sorted(name for name, row in self.holds.items() if row.live(now)))

    def without(self, name: str) -> Account:
        """The account as if hold `name` were not there."""
        return replace(self, holds={key: row for key, row in self.holds.items() if key != name})


def place(desk: Desk) -> Place:
    """Where the account is kept."""
    return Place(CONFIG_MAPS, desk.settings.state_namespace, NAME)


def read(desk: Desk) -> tuple[Object | None, Account]:
    """The ConfigMap as it is this moment (None: not there yet) and what it says. Raises ValueError where it is not ours."""
    found = desk.find(place(desk))
    return found, parse(found)


def parse(found: Object | None) -> Account:
    """What the ConfigMap says; an absent one promises nothing."""
    text: Any = ((found or {}).get("data") or {}).get(_KEY)
    return Account() if text is None else codec.decode(Account, str(text).encode())


def keep(desk: Desk, found: Object | None, new: Account) -> Answer | None:
    """Write what was computed from `found`, if it is still that; None when done, STALE where somebody was faster."""
    ended = {name for name, row in new.holds.items() if not row.live(desk.now) and row.expires_at + _FORGET_S < desk.now}
    kept = replace(new, holds={name: row for name, row in new.holds.items() if name not in ended})
    data = {_KEY: codec.encode(kept).decode()}
    if found is not None:
        return desk.write(place(desk), found, marks.recorded(found, desk.id), data=data)
    meta = {"name": NAME, "annotations": {marks.ACTIONS: desk.id}}
    try:
        desk.connection.create(CONFIG_MAPS.path(desk.settings.state_namespace), {"metadata": meta, "data": data})
    except Refused as error:
        if error.code == 409:
            return Outcome.STALE, error.message
        raise
    return None


def named(id: str, by: Iterable[str] = ()) -> tuple[str, ...]:
    """The ids of a row that action `id` now changes."""
    return (id, *(one for one in by if one != id))[:_IDS]
