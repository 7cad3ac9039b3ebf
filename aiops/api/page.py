"""Reading strictly: unknown query parameters are refused, pages are bounded, and a cursor survives new rows.

A time-ordered page pins `until` in its cursor, so that rows which arrive while somebody pages do not shift the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request
from fastapi.routing import APIRoute

from aiops.api.problem import bad
from aiops.api.view import Seen

T = TypeVar("T")
DEEPEST = 10_000  # rows behind one window that can be paged to; narrow the window to go further
Limit = Annotated[int, Query(ge=1, le=1000)]
Name = Annotated[str | None, Query(max_length=512)]
Time = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)]


def only_known(request: Request) -> None:
    """Refuse query parameters that the route does not have: a misspelt filter must not widen an answer."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = {field.alias for needs in (route.dependant, *route.dependant.dependencies) for field in needs.query_params}
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(sorted(known)) or "no query parameters"
            raise bad(name[:64], f"one of: {listed}" if known else listed)


def named(rows: Iterable[T], name: Callable[[T], str], limit: int, after: str | None) -> dict[str, Any]:
    """One page of rows sorted by name, after the name `after`."""
    ordered = sorted(rows, key=name)
    rest = [row for row in ordered if after is None or name(row) > after]
    more = len(rest) > limit
    return {"items": rest[:limit], "next": name(rest[limit - 1]) if more else None, "total": len(ordered)}


@dataclass(frozen=True, slots=True)
class Span:
    """A bounded look back: rows in [since, until], newest first, `offset` rows skipped, `limit` given."""

    since: float
    until: float
    offset: int
    limit: int

    def page(self, rows: Sequence[T]) -> dict[str, Any]:
        """The page out of all rows of the window (up to `reach` of them)."""
        end = self.offset + self.limit
        more = len(rows) > end and end < DEEPEST
        return {"items": list(rows[self.offset : end]), "next": f"{self.until!r}:{end}" if more else None}

    @property
    def reach(self) -> int:
        """Rows to ask the store for, to know whether another page follows."""
        return self.offset + self.limit + 1


def span(view: Seen, since: Time = None, until: Time = None, limit: Limit = 100, cursor: Name = None) -> Span:
    """Dependency: the window that the query asks for; by default the last day."""
    end, offset = until if until is not None else view.clock.now(), 0
    if cursor is not None:
        end, offset = _cursor(cursor)
    start = since if since is not None else end - 86400.0
    if start > end:
        raise bad("since", "a time not after `until`")
    return Span(start, end, offset, limit)


def _cursor(text: str) -> tuple[float, int]:
    end, _, offset = text.partition(":")
    try:
        parsed = float(end), int(offset)
    except ValueError:
        raise bad("cursor", "the `next` of an earlier page") from None
    if not 0 <= parsed[0] <= 1e11 or not 0 <= parsed[1] <= DEEPEST:
        raise bad("cursor", "the `next` of an earlier page")
    return parsed
