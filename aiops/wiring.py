"""Settings -> the parts of one daemon: the one place where ports meet their implementations.

Order matters: what can be wrong in the configuration is found before the database is touched, and the database before any
process is started, so that a refusal leaves nothing half-started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from aiops import plugins
from aiops.action import Mode
from aiops.clock import Clock
from aiops.decide.limits import Limits
from aiops.errors import ConfigError, UserError
from aiops.foresight import Foresight
from aiops.killswitch import KillSwitch
from aiops.leadership import Leadership
from aiops.loop import House, Memory, needs_of
from aiops.model import Cluster, Query
from aiops.notify.announce import Announcer
from aiops.ports import Backend, Collector, Diagnoser, Notifier, Policy, Store
from aiops.refresh import Refresher
from aiops.scrape import Scraper
from aiops.settings import Settings
from aiops.store.opening import FILE_NAME, addressed, open_store

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
    diagnosers: Sequence[Diagnoser]
    evidence: Sequence[Query]
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
        "backends": {name: _placed(name, section, settings) for name, section in settings.backend.items()},
        "collectors": {name: _placed(name, section, settings) for name, section in settings.collectors.items()},
        "diagnosers": {name: section or {} for name, section in settings.diagnosers.items()},
        "policies": {name: policy.model_extra or {} for name, policy in settings.policies.items()},
    }


def notifiers(settings: Settings, where: str) -> dict[str, Notifier]:
    """Every receiver's integrations by `receiver/integration`. ConfigError where a section or the route is wrong."""
    if settings.route and settings.route.receiver not in settings.receivers:
        raise ConfigError(where, "route.receiver", f"expected one of: {', '.join(settings.receivers) or '(no receivers)'}")
    return {
        f"{receiver}/{kind}": cast(Notifier, plugins.load("notifiers", kind, section, f"{where}: receivers.{receiver}"))
        for receiver, kinds in settings.receivers.items()
        for kind, section in kinds.items()
    }


def _placed(name: str, section: Mapping[str, Any] | None, settings: Settings) -> Mapping[str, Any]:
    """A section with its files beside our own data, unless it says otherwise: the local backend and what it writes."""
    here = settings.data_dir / "local"
    beside: dict[str, Mapping[str, Any]] = {
        "local": {"state_dir": str(here)},
        "services": {"endpoints": str(here / "endpoints.json")},
        "jobs": {"directory": str(here / "telemetry")},
    }
    return {**beside.get(name, {}), **(section or {})} if "local" in settings.backend else section or {}


def check(settings: Settings, where: str) -> list[str]:
    """Build every plug-in once and let it go; lines that say what would run. ConfigError for the first thing wrong."""
    with _named(where):
        addressed(None, settings)
    lines = [f"cluster {settings.cluster}, data in {settings.data_dir}"]
    for group, named in sections(settings).items():
        for name, section in named.items():
            built = plugins.load(group, name, section, where)
            for other in getattr(built, "beside", ()) if group == "policies" else ():
                _beside(settings, where, name, other)
            mode = f" ({settings.policies[name].mode.value})" if group == "policies" else ""
            lines.append(f"{group} {name}{mode}: ok")
    for name in Limits.from_settings(settings.limits, where).scopes:
        if name not in settings.policies:  # a misspelt policy would go without its bounds
            raise ConfigError(where, f"limits.scopes.{name}", f"expected a policy: {', '.join(settings.policies)}")
    Foresight.from_settings(settings.forecast, where)
    return lines + [f"receiver {name}: ok" for name in notifiers(settings, where)]


def _beside(settings: Settings, where: str, name: str, other: str) -> None:
    """Refuse a policy that acts without the one that it may not act without."""
    acts = {policy for policy, own in settings.policies.items() if own.mode is Mode.ACT}
    if name in acts and other not in acts:
        raise ConfigError(where, f"policies.{name}.mode", f"expected policies.{other}.mode: act beside it, which does not act")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """The store does not know which file its URL came from; a person wants to."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(where, error.key, error.expected) from None


def assemble(settings: Settings, where: str, clock: Clock) -> Parts:
    """Build everything. Raises ConfigError (nothing has been started then) for the first thing that is wrong."""
    check(settings, where)
    with _named(where):
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
    announcer = Announcer(store, settings.route, notifiers(settings, where))
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
    diagnosers = [cast(Diagnoser, one) for one in _built("diagnosers", found, where).values()]
    collectors = cast(dict[str, Collector], _built("collectors", found, where))
    return Parts(
        store=store,
        house=house,
        memory=Memory(),
        leadership=leadership,
        kill=kill,
        scraper=Scraper(collectors, store, clock, socket.gethostname()),
        refresher=Refresher.from_settings(store, settings.forecast, where),
        diagnosers=diagnosers,
        evidence=tuple({query: None for one in diagnosers for query in one.needs()}),
        announcer=announcer,
    )


RESOURCES = (
    "node_memory_MemAvailable_bytes", "node_filesystem_avail_bytes", "node_filesystem_files_free", "gpu_memory_used_bytes",
    "gpu_power_watts", "gpu_temperature_celsius", "node_network_transmit_bytes_total", "node_network_receive_bytes_total",
    "service_requests_per_second", "pool_gpus_demanded", "queue_gpus_demanded", "link_traffic_bytes_per_s", "volume_used_bytes",
)  # fmt: skip
"""What can run out, fill up or overheat within the half hour that forecasts look ahead (limits: `forecast/limits.py`)."""


def foreseen(policies: Mapping[str, Policy], cluster: Cluster) -> tuple[Query, ...]:
    """Queries whose series are forecast: what the policies look at, and what can run out."""
    queries = [need.query for need in needs_of(policies, cluster)]
    return tuple(queries) + tuple(Query(metric=metric, window_s=3600.0) for metric in RESOURCES)


def existing_store(settings: Settings) -> Store:
    """The store that a daemon left behind; UserError where there is none, so that a typo does not make a new one."""
    if settings.store.url is None and not (settings.data_dir / FILE_NAME).exists():
        raise UserError(f"{settings.data_dir}: expected the data directory of an earlier `aiops run`")
    return open_store(None, settings)


def _built(group: str, found: Sections, where: str) -> dict[str, Any]:
    return {name: plugins.load(group, name, cast(Any, section), where) for name, section in found[group].items()}
