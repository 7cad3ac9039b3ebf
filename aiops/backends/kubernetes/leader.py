"""Who leads, shown where Kubernetes people look: a Lease object. It fences nobody; the epoch in the store does.

`kubectl -n aiops get lease aiops` names the holder; `leaseTransitions` is the fencing epoch. A daemon that wakes up late never
writes its old epoch over a newer one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiops.backends.kubernetes import marks
from aiops.backends.kubernetes.connection import Connection, Object, Refused
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.kinds import LEASES
from aiops.errors import Temporary

NAME = "aiops"
_DURATION_S = 13  # as long as the lease in the store is taken for
_EVERY_S = 3.0  # as often as that one is renewed


class Leader:
    """What this daemon has shown so far."""

    def __init__(self, connection: Connection, settings: KubernetesSettings) -> None:
        self._connection, self._path = connection, LEASES.path(settings.state_namespace)
        self._shown: tuple[str, int, float] = ("", -1, float("-inf"))

    def announce(self, holder: str, epoch: int, now: float) -> bool:
        """Show it, unless it was shown within the last seconds; False where a newer epoch is there or the server refuses."""
        if self._shown[:2] == (holder, epoch) and 0 <= now - self._shown[2] < _EVERY_S:
            return True
        try:
            shown = self._written(holder, epoch, now)
        except (Temporary, KeyError, TypeError, ValueError, AttributeError):
            return False
        if shown:
            self._shown = (holder, epoch, now)
        return shown

    def _written(self, holder: str, epoch: int, now: float) -> bool:
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {
            "holderIdentity": holder, "leaseDurationSeconds": _DURATION_S, "renewTime": at, "leaseTransitions": epoch,
        }  # fmt: skip
        try:
            found = self._connection.get(f"{self._path}/{NAME}")
        except Refused as error:
            if error.code != 404:
                raise
            self._connection.create(self._path, {"metadata": {"name": NAME}, "spec": {**spec, "acquireTime": at}})
            return True
        known = found.get("spec") or {}
        if int(known.get("leaseTransitions") or 0) > epoch:
            return False
        if known.get("holderIdentity") != holder:
            spec["acquireTime"] = at
        self._connection.patch(f"{self._path}/{NAME}", marks.guarded(found, {}, spec=spec))
        return True
