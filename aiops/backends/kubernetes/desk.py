"""What one action works with: the connection, its id, the time; and the guarded patch that all effects go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiops.action import Outcome
from aiops.backends.kubernetes import marks
from aiops.backends.kubernetes.connection import Connection, Object, Refused
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.kinds import Kind

Answer = tuple[Outcome, str]


@dataclass(frozen=True, slots=True)
class Place:
    """One object's address."""

    kind: Kind
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Its REST path."""
        return self.kind.path(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Desk:
    """One action under way. `written` collects what the next observation must have seen: collection and version."""

    connection: Connection
    settings: KubernetesSettings
    id: str
    now: float
    written: list[tuple[str, str]] = field(default_factory=list)

    def find(self, place: Place) -> Object | None:
        """The object as it is this moment, or None. Raises Refused, NotSent, Lost."""
        if not place.name or (place.kind.namespaced and not place.namespace):
            return None  # an empty name is the path of the whole collection
        try:
            return self.connection.get(place.path)
        except Refused as error:
            if error.code == 404:
                return None
            raise

    def write(self, place: Place, found: Object, annotations: Mapping[str, str | None], **rest: Any) -> Answer | None:
        """Patch what was read, if it is still that; None when done, STALE where somebody was faster."""
        answer = self.written_to(place, found, annotations, **rest)
        return answer if isinstance(answer, tuple) else None

    def written_to(self, place: Place, found: Object, annotations: Mapping[str, str | None], **rest: Any) -> Object | Answer:
        """As `write`, but gives the object as it is after it."""
        try:
            new = self.connection.patch(place.path, marks.guarded(found, annotations, **rest))
        except Refused as error:
            if error.code in (404, 409):
                return Outcome.STALE, error.message
            raise
        if not _holds(rest, new):
            return Outcome.UNKNOWN, "the server kept the mark of this action but not its change: something in between alters it"
        self.written.append((place.kind.path(place.namespace), str(new["metadata"]["resourceVersion"])))
        return new


def _holds(asked: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a merge patch is there in the object that the server gave back; null means absent."""
    return all(
        _holds(value, found.get(key) or {}) if isinstance(value, Mapping) else found.get(key) == value
        for key, value in asked.items()
    )
