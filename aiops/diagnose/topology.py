"""A declared graph from a topology file's plain data (`docs/rootcause.md` has the format). Bad data is one clear line.

Reads no file: the command line gives it the parsed mapping and the file's name for messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiops.diagnose.graph import Edge, Graph, link
from aiops.diagnose.meaning import Tag
from aiops.errors import ConfigError
from aiops.metrics import Bad, Side

_KEYS = ("entities", "edges", "edge_metrics", "metrics")


def parse_topology(data: Mapping[str, Any], where: str) -> Graph:
    """Graph from `entities`, `edges`, `edge_metrics`, `metrics`, all optional. ConfigError names the key that is wrong.

    An edge may name an entity that is not listed: it is taken as declared without a type.
    """
    for key in data:
        if key not in _KEYS:
            raise ConfigError(where, str(key), f"expected one of: {', '.join(_KEYS)}")
    types = {}
    for at, row in _rows(data, "entities", where):
        types[_text(row, "id", at, where)] = _text(row, "type", at, where, "service")
    pairs = [(_text(row, "from", at, where), _text(row, "to", at, where)) for at, row in _rows(data, "edges", where)]
    edges = tuple(
        Edge(id=_text(row, "id", at, where), effect=_text(row, "from", at, where), cause=_text(row, "to", at, where))
        for at, row in _rows(data, "edge_metrics", where)
    )
    pairs += [(edge.effect, edge.cause) for edge in edges]
    tags = tuple(_tag(row, at, where) for at, row in _rows(data, "metrics", where))
    for name in (name for pair in pairs for name in pair):
        types.setdefault(name, "")
    return Graph(types=types, causes=link(pairs), edges=edges, tags=tags)


def _rows(data: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    rows = data.get(key)
    if rows is None:
        return []
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ConfigError(where, key, "expected a list")
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ConfigError(where, f"{key}[{i}]", f"expected a mapping, found {str(row)[:40]!r}")
    return [(f"{key}[{i}]", row) for i, row in enumerate(rows)]


def _text(row: Mapping[str, Any], key: str, at: str, where: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or str(value) == "":
        raise ConfigError(where, f"{at}.{key}", f"expected a name, found {str(value)[:40]!r}")
    return str(value)


def _tag(row: Mapping[str, Any], at: str, where: str) -> Tag:
    side, worse = row.get("side"), row.get("worse")
    for key, value, allowed in (("side", side, list(Side)), ("worse", worse, list(Bad))):
        if value is not None and value not in list(allowed):
            raise ConfigError(where, f"{at}.{key}", f"expected one of {', '.join(allowed)}, found {str(value)[:40]!r}")
    return Tag(_text(row, "match", at, where), Side(side) if side else None, Bad(worse) if worse else None)
