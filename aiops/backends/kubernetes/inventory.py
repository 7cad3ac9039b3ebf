"""All mirrors of one cluster, and the versions that they must have reached before they may be shown."""

from __future__ import annotations

from typing import Any

from aiops.backends.kubernetes import kinds, records
from aiops.backends.kubernetes.connection import Connection
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.kinds import Kind
from aiops.backends.kubernetes.mirror import Mirror, Source, T
from aiops.backends.kubernetes.picture import Records
from aiops.clock import SystemClock


class Inventory:
    """Started at once; `records` waits for the first lists."""

    def __init__(self, connection: Connection, settings: KubernetesSettings) -> None:
        self._connection, self._settings = connection, settings
        self._expected: dict[str, str] = {}
        self._deadline = 0.0
        reader = records.Reader(settings.gpu_resources)
        self._nodes = self._mirror(kinds.NODES, reader.node)
        self._pods = self._mirror(kinds.PODS, reader.pod)
        self._jobs = self._mirror(kinds.JOBS, reader.job)
        self._priorities = self._mirror(kinds.PRIORITIES, records.priority)
        self._autoscalers = self._mirror(kinds.AUTOSCALERS, records.autoscaler, optional=True)
        self._scalables = {kind.plural: self._mirror(kind, reader.scalable, optional=True) for kind in settings.scalable_kinds}

    def _mirror(self, kind: Kind, parse: Any, optional: bool = False) -> tuple[Mirror[Any], ...]:
        """One mirror per declared namespace, or one over all of them."""
        scopes = self._settings.namespaces if kind.namespaced and self._settings.namespaces else ("",)
        out = []
        for scope in scopes:
            source = Source(kind.path(scope), parse, optional)
            out.append(Mirror(self._connection, source, self._settings.watch, self._settings.max_age))
            out[-1].start()
        return tuple(out)

    def records(self) -> Records:
        """What the cluster is made of, own writes included. Raises Unreadable."""
        self._deadline = SystemClock().elapsed() + 2 * self._settings.timeout  # for all mirrors together
        return Records(
            nodes=self._rows(self._nodes), pods=self._rows(self._pods), jobs=self._rows(self._jobs),
            priorities=self._rows(self._priorities), autoscalers=self._rows(self._autoscalers),
            scalables={plural: self._rows(mirrors) for plural, mirrors in self._scalables.items()},
        )  # fmt: skip

    def _rows(self, mirrors: tuple[Mirror[T], ...]) -> tuple[T, ...]:
        return tuple(
            row for mirror in mirrors for row in mirror.rows(self._expected.get(mirror.source.path, ""), self._deadline)
        )

    def expect(self, path: str, version: str) -> None:
        """A write to the collection `path` took `version`: from now on an older picture of it is refused."""
        for mirror in self._all():
            if mirror.source.path in (path, _whole(path)):
                self._expected[mirror.source.path] = version

    def _all(self) -> tuple[Mirror[Any], ...]:
        groups = (self._nodes, self._pods, self._jobs, self._priorities, self._autoscalers, *self._scalables.values())
        return tuple(mirror for group in groups for mirror in group)

    @property
    def lists(self) -> int:
        """Full lists made so far, over all mirrors: one each, and one more for every 410."""
        return sum(mirror.lists for mirror in self._all())

    def close(self) -> None:
        """End all mirrors; open watches end by their own time-out."""
        for mirror in self._all():
            mirror.close()


def _whole(path: str) -> str:
    """The same collection over all namespaces."""
    head, marker, tail = path.partition("/namespaces/")
    return f"{head}/{tail.partition('/')[2]}" if marker else path
