"""All mirrors of one cluster, and the versions that they must have reached before they may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from aiops.backends.kubernetes import kinds, records, versions
from aiops.backends.kubernetes.connection import Connection
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.finishing import Unfinished
from aiops.backends.kubernetes.kinds import Kind
from aiops.backends.kubernetes.mirror import Mirror, Source, T, reaches
from aiops.backends.kubernetes.picture import Records
from aiops.backends.kubernetes.records import ScalableRecord
from aiops.clock import SystemClock
from aiops.errors import Temporary, Unreadable


class Inventory:
    """Started at once; `records` waits for the first lists."""

    def __init__(self, connection: Connection, settings: KubernetesSettings) -> None:
        self._connection, self._settings = connection, settings
        self._expected: dict[str, str] = {}
        reader = records.Reader(settings.gpu_resources)
        self._nodes = self._mirror(kinds.NODES, reader.node)
        self._pods = self._mirror(kinds.PODS, reader.pod)
        self._jobs = self._mirror(kinds.JOBS, reader.job)
        self._priorities = self._mirror(kinds.PRIORITIES, records.priority)
        self._autoscalers = self._mirror(kinds.AUTOSCALERS, records.autoscaler, optional=True)
        self._workloads = self._mirror(kinds.WORKLOADS[0], records.workload, optional=True, known=kinds.WORKLOADS)
        self._scalables = {kind.plural: self._mirror(kind, reader.scalable, optional=True) for kind in settings.scalable_kinds}
        self._scales: dict[str, tuple[str, int, int]] = {}

    def _mirror(self, kind: Kind, parse: Any, optional: bool = False, known: Sequence[Kind] = ()) -> tuple[Mirror[Any], ...]:
        """One mirror per declared namespace, or one over all; of the version that is served, where several are known."""
        scopes = self._settings.namespaces if kind.namespaced and self._settings.namespaces else ("",)
        out = []
        for scope in scopes:
            source = Source(kind.path(scope), parse, optional, partial(self._path, known, scope) if known else None)
            out.append(Mirror(self._connection, source, self._settings.watch, self._settings.max_age))
            out[-1].start()
        return tuple(out)

    def _path(self, known: Sequence[Kind], scope: str) -> str:
        return versions.served(self._connection, known).path(scope)

    def records(self) -> Records:
        """What the cluster is made of, own writes included. Raises Unreadable."""
        deadline = self._deadline()
        kinds_of = self._settings.scalable_kinds

        def rows(mirrors: tuple[Mirror[T], ...]) -> tuple[T, ...]:
            return self._rows(mirrors, deadline)

        return Records(
            nodes=rows(self._nodes), pods=rows(self._pods), jobs=rows(self._jobs), priorities=rows(self._priorities),
            autoscalers=rows(self._autoscalers), workloads=rows(self._workloads),
            scalables={kind.plural: self._scaled(kind, rows(self._scalables[kind.plural])) for kind in kinds_of},
        )  # fmt: skip

    def unfinished(self) -> Unfinished:
        """For a look at what was begun on them; waits for nothing. Raises Unreadable."""
        now = SystemClock().elapsed()
        jobs, pods = self._rows(self._jobs, now), self._rows(self._pods, now)
        try:
            return Unfinished(jobs, pods, self._rows(self._workloads, now))
        except Unreadable:
            return Unfinished(jobs, pods, ())  # a Kueue that is away keeps no half-stopped run from its end

    def _deadline(self) -> float:
        return SystemClock().elapsed() + 2 * self._settings.timeout  # for all mirrors together

    def _rows(self, mirrors: tuple[Mirror[T], ...], deadline: float) -> tuple[T, ...]:
        return tuple(row for mirror in mirrors for row in mirror.rows(self._expected.get(mirror.path, ""), deadline))

    def _scaled(self, kind: Kind, rows: tuple[ScalableRecord, ...]) -> tuple[ScalableRecord, ...]:
        """Replicas as the scale subresource has them, asked for once per version of each object that its owner offers."""
        if not kind.scaled:
            return rows
        return tuple(self._with_scale(kind, row) if "target" in row.meta.marks else row for row in rows)

    def _with_scale(self, kind: Kind, row: ScalableRecord) -> ScalableRecord:
        known = self._scales.get(row.uid)
        if known is None or known[0] != row.version:
            try:
                found = self._connection.get(kind.path(row.meta.namespace, row.meta.name, "scale"))
                known = (
                    row.version,
                    int(found["spec"].get("replicas", 0)),
                    int((found.get("status") or {}).get("replicas", 0)),
                )
            except (Temporary, KeyError, TypeError, ValueError) as error:
                raise Unreadable(f"scale of {row.meta.namespace}/{row.meta.name}: {error}") from None
            self._scales[row.uid] = known
        return replace(row, replicas=known[1], ready=known[2])

    def expect(self, path: str, version: str) -> None:
        """A write to the collection `path` took `version`: from now on an older picture of it is refused."""
        for mirror in self._all():
            known = self._expected.get(mirror.path, "")
            if mirror.path in (path, _whole(path)) and not reaches(known, version):
                self._expected[mirror.path] = version

    def _all(self) -> tuple[Mirror[Any], ...]:
        groups = (
            self._nodes,
            self._pods,
            self._jobs,
            self._priorities,
            self._autoscalers,
            self._workloads,
            *self._scalables.values(),
        )
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
