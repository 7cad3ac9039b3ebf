"""Settings -> the parts of one daemon: the one place where ports meet their implementations.

Order matters: what can be wrong in the configuration is found before the database is touched, and the database before any
process is started, so that a refusal leaves nothing half-started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiops import plugins
from aiops.clock import Clock
from aiops.decide.admit import Limits
from aiops.errors import ConfigError
from aiops.killswitch import KillSwitch
from aiops.leadership import Leadership
from aiops.loop import House, Memory
from aiops.notify.announce import Announcer
from aiops.ports import Backend, Collector, Policy, Store
from aiops.refresh import Refresher
from aiops.scrape import Scraper
from aiops.settings import Settings
from aiops.store import open_store

Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that a daemon ticks."""

    store: Store
    house: House
    memory: Memory
    leadership: Leadership
    kill: KillSwitch
    scraper: Scraper
    refresher: Refresher
    announcer: Announcer

    def close(self) -> None:
        """Let go in the order that loses nothing: workers, lease, cluster, database."""
        self.refresher.close()
        self.leadership.release()
        self.house.backend.close()
        self.store.close()


def sections(settings: Settings) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Plug-in group -> name -> its own section, without what belongs to the daemon (a policy's mode)."""
    return {
        "backends": {name: _local(name, section or {}, settings) for name, section in settings.backend.items()},
        "collectors": {name: section or {} for name, section in settings.collectors.items()},
        "policies": {name: policy.model_extra or {} for name, policy in settings.policies.items()},
        "notifiers": {kind: section for receiver in settings.receivers.values() for kind, section in receiver.items()},
    }


def _local(name: str, section: Mapping[str, Any], settings: Settings) -> Mapping[str, Any]:
    """The local backend keeps its state beside ours unless it is told otherwise."""
    return {"state_dir": str(settings.data_dir / "local"), **section} if name == "local" else section


def check(settings: Settings, where: str) -> list[str]:
    """Build every plug-in once and let it go; lines that say what would run. ConfigError for the first thing wrong."""
    lines = [f"cluster {settings.cluster}, data in {settings.data_dir}"]
    for group, named in sections(settings).items():
        for name, section in named.items():
            plugins.load(group, name, section, where)
            mode = f" ({settings.policies[name].mode.value})" if group == "policies" else ""
            lines.append(f"{group} {name}{mode}: ok")
    Limits.from_settings(settings.limits, where)
    if settings.route and settings.route.receiver not in settings.receivers:
        raise ConfigError(where, "route.receiver", f"expected one of: {', '.join(settings.receivers) or '(no receivers)'}")
    return lines


def assemble(settings: Settings, where: str, clock: Clock, changed: Callable[[], None] = lambda: None) -> Parts:
    """Build everything. Raises ConfigError (nothing has been started then) for the first thing that is wrong."""
    check(settings, where)
    store = open_store(None, settings)
    try:
        return _assemble(settings, where, clock, store)
    except BaseException:
        store.close()
        raise


def _assemble(settings: Settings, where: str, clock: Clock, store: Store) -> Parts:
    found = sections(settings)
    kill = KillSwitch(settings.data_dir / "kill")
    leadership = Leadership(store, clock, f"{socket.gethostname()}:{os.getpid()}")
    announcer = Announcer(store, settings.route, _built("notifiers", found, where), clock)
    ((name, section),) = found["backends"].items()
    house = House(
        store=store,
        backend=cast(Backend, plugins.load("backends", name, section, where)),
        policies=cast(dict[str, Policy], _built("policies", found, where)),
        clock=clock,
        modes={name: policy.mode for name, policy in settings.policies.items()},
        rules=found["policies"],
        limits=settings.limits,
        halted=kill.engaged,
        leads=leadership.leads,
        announce=announcer.announce,
    )
    collectors = cast(dict[str, Collector], _built("collectors", found, where))
    return Parts(
        store=store,
        house=house,
        memory=Memory(),
        leadership=leadership,
        kill=kill,
        scraper=Scraper(collectors, store, clock, socket.gethostname()),
        refresher=Refresher(store),
        announcer=announcer,
    )


def _built(group: str, found: Sections, where: str) -> dict[str, Any]:
    return {name: plugins.load(group, name, cast(Any, section), where) for name, section in found[group].items()}
