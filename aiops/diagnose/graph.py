"""The declared graph: which entity's trouble can show in which other. From inventory or YAML, never learned from data.

`causes[x]` are the entities that x depends on: trouble in one of them can show in x. Cycles are legal (two services that
call each other); every walk here visits an entity once. Knows no metric values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from aiops.diagnose.meaning import Tag

ASIDE = 3
"""Cost of an entity on a chain that shows nothing: a detour over two that do is the better explanation."""


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

    def chain(self, cause: str, effect: str, through: Collection[str] = ()) -> tuple[str, ...]:
        """Cheapest path from a cause to where it shows, both included; just the cause where none is declared.

        An entity of `through` (where the evidence is) costs 1, any other `ASIDE`: with none given, the shortest path.
        """
        queue: list[tuple[int, int, str, str]] = [(0, 0, effect, "")]
        before: dict[str, str] = {}
        pushed = 0
        while queue:
            cost, _, entity, after = heappop(queue)
            if entity in before:
                continue
            before[entity] = after
            if entity == cause:
                return _walk(before, cause)
            for parent in self.causes.get(entity, ()):
                pushed += 1  # equal costs: in the order of declaration
                heappush(queue, (cost + (1 if parent in through else ASIDE), pushed, parent, entity))
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


def with_named_edges(graph: Graph, entities: Collection[str]) -> Graph:
    """The graph and the measured edges that only their ids declare: `a->b`, where both ends are known by themselves."""
    known, declared = {*entities, *graph.types}, {edge.id for edge in graph.edges}
    found = []
    for name in sorted(set(entities) - declared):
        effect, arrow, cause = name.partition("->")
        if arrow and {effect, cause} <= known:
            found.append(Edge(id=name, effect=effect, cause=cause))
    if not found:
        return graph
    pairs = [(effect, cause) for effect, causes in graph.causes.items() for cause in causes]
    pairs += [(edge.effect, edge.cause) for edge in found]
    return replace(graph, causes=link(pairs), edges=(*graph.edges, *found))


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
