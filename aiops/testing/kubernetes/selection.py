"""Label and field selectors, in the text form of query strings and in the structured form of objects."""

from __future__ import annotations

import re
from typing import Any

from aiops.testing.kubernetes.status import Refused, malformed

_TERM = re.compile(r"^(!?[\w./-]+|[\w./-]+\s*(=|==|!=)\s*[\w.-]*|[\w./-]+ (in|notin) \([^)]*\))$")
_SET = re.compile(r"^(\S+) (in|notin) \((.*)\)$")


def by_text(labels: str, fields: str, found: dict[str, Any]) -> bool:
    """Whether an object matches `labelSelector` and `fieldSelector`; empty texts match everything."""
    has = found["metadata"].get("labels", {})
    terms = [term.strip() for term in re.split(r",(?![^(]*\))", labels) if term.strip()]
    if odd := next((term for term in terms if not _TERM.match(term)), ""):
        raise malformed(f"unable to parse requirement: {odd!r}")
    return all(_label(term, has) for term in terms) and all(_field(term, found) for term in fields.split(",") if term)


def as_selected(kind: str, row: dict[str, Any], before: dict[str, Any] | None, query: dict[str, str]) -> str:
    """What a watcher with these selectors is told: what comes to match is ADDED, what no longer does is DELETED."""
    selectors = query.get("labelSelector", ""), query.get("fieldSelector", "")
    now = by_text(*selectors, row)
    if kind != "MODIFIED" or before is None:
        return kind if now else ""
    known = by_text(*selectors, before)
    return "MODIFIED" if now and known else "ADDED" if now else "DELETED" if known else ""


def _label(term: str, has: dict[str, str]) -> bool:
    member = _SET.match(term)
    if member:
        allowed = {value.strip() for value in member[3].split(",")}
        return (has.get(member[1]) in allowed) == (member[2] == "in")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return has.get(key) != value
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return has.get(key) == value
    return term[1:] not in has if term.startswith("!") else term in has


def _field(term: str, found: dict[str, Any]) -> bool:
    differs = "!=" in term
    path, _, value = term.replace("!=", "=").replace("==", "=").partition("=")
    here: Any = found
    for part in path.split("."):
        here = here.get(part, "") if isinstance(here, dict) else ""
    if path not in ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.unschedulable"):
        raise Refused(400, "BadRequest", f"field label not supported: {path}")
    return (str(here) == value) != differs


def by_object(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether labels match a LabelSelector; None matches nothing, the empty one everything (policy/v1)."""
    if selector is None:
        return False
    wanted = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return wanted and all(_expression(row, labels) for row in selector.get("matchExpressions", []))


def _expression(row: dict[str, Any], labels: dict[str, str]) -> bool:
    match row["operator"]:
        case "In":
            return labels.get(row["key"]) in row["values"]
        case "NotIn":
            return labels.get(row["key"]) not in row["values"]
        case "Exists":
            return row["key"] in labels
        case _:
            return row["key"] not in labels
