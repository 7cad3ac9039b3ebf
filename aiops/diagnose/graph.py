"""The declared graph: which entity's trouble can show in which other. From inventory or YAML, never learned from data.

`causes[x]` are the entities that x depends on: trouble in one of them can show in x. Cycles are legal (two services that
call each other); every walk here visits an entity once. Knows no metric values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiops.diagnose.meaning import Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An edge that is measured itself: series under `id`, seen by `effect` (caller) of `cause` (callee)."""

    id: str
    effect: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Entities with their types, dependencies, measured edges, and tags on metrics."""

    types: Mapping[str, str] = field(default_factory=dict)
    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    tags: tuple[Tag, ...] = ()

    def type(self, entity: str) -> str:
        """Declared type, or the empty string."""
        return self.types.get(entity, "")

    def chain(self, cause: str, effect: str) -> tuple[str, ...]:
        """Shortest path from a cause to where it shows, both included; just the cause where none is declared."""
        before: dict[str, str] = {effect: ""}
        queue = deque([effect])
        while queue:
            entity = queue.popleft()
            if entity == cause:
                return _walk(before, cause)
            for parent in self.causes.get(entity, ()):
                if parent not in before:
                    before[parent] = entity
                    queue.append(parent)
        return (cause,)

    def upstream(self, effect: str) -> frozenset[str]:
        """Everything that can show in `effect`, itself included."""
        seen, stack = {effect}, [effect]
        while stack:
            for parent in self.causes.get(stack.pop(), ()):
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        return frozenset(seen)


def link(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """`causes` from (effect, cause) pairs; repeats and self-loops are dropped, order is kept."""
    found: dict[str, dict[str, None]] = {}
    for effect, cause in pairs:
        if effect != cause:
            found.setdefault(effect, {})[cause] = None
    return {effect: tuple(parents) for effect, parents in found.items()}


def _walk(before: Mapping[str, str], cause: str) -> tuple[str, ...]:
    path = [cause]
    while before[path[-1]]:
        path.append(before[path[-1]])
    return tuple(path)
