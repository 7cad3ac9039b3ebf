"""Where the replicas of each service listen: a file for whoever balances or scrapes, and the same as values.

Written whole, and only when something changed, so that a reader may poll it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiops import codec
from aiops.backends import disk
from aiops.backends.local.declare import ServiceSpec
from aiops.backends.local.state import Phase, State, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One replica that runs. Send traffic to it only while `ready`; `metrics` is empty where none are declared."""

    service: str
    unit: str
    address: str
    ready: bool
    draining: bool
    metrics: str = ""


def endpoints(state: State, specs: Mapping[str, ServiceSpec]) -> tuple[Endpoint, ...]:
    """Endpoints of all replicas with a live process, by service and age."""
    return tuple(
        _endpoint(name, unit, spec)
        for name, spec in sorted(specs.items())
        for unit in state.owned(f"service/{name}")
        if unit.identity
    )


def _endpoint(name: str, unit: Unit, spec: ServiceSpec) -> Endpoint:
    address = f"127.0.0.1:{unit.port}"
    metrics = f"http://{address}{spec.metrics.path}" if spec.metrics else ""
    draining = unit.phase is Phase.STOPPING
    return Endpoint(service=name, unit=unit.id, address=address, ready=unit.ready, draining=draining, metrics=metrics)


class Endpoints:
    """The file `endpoints.json`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""

    def write(self, state: State, specs: Mapping[str, ServiceSpec], now: float) -> None:
        """Replace the file if what it says changed."""
        found = endpoints(state, specs)
        rows = {
            name: {
                "replicas": state.services[name].replicas,
                "ready": sum(unit.ready for unit in state.owned(f"service/{name}")),
                "restarts": state.services[name].restarts,
                "counter": spec.metrics.counter if spec.metrics else "",
                "latency": spec.metrics.latency if spec.metrics else "",
                "endpoints": [point for point in found if point.service == name],
            }
            for name, spec in sorted(specs.items())
            if name in state.services
        }
        data = codec.encode(rows)
        if data != self._written or not self._path.exists():
            disk.write(self._path, {"at": now, "services": rows})
            self._written = data
