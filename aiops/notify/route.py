"""When which alerts go out together, and why: grouping, waiting, dedup, repetition. Pure; the same rules as Alertmanager's.

    alerts now + groups as they were  ->  notices to send + groups as they are + a named reason for each group

A group waits `group_wait` after its first alert, then looks again every `group_interval`; nothing new is repeated after
`repeat_interval`. Sooner or later every firing and every resolution is told; a silence hides what fires, but never that
something of which the receiver was told is over. A wall clock that steps back makes a group look at once: twice is better
than late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from aiops.action import Order
from aiops.model import Labels
from aiops.notify.alert import Alert, silenced
from aiops.settings import Route


class Reason(StrEnum):
    """Why a group is told of, in Alertmanager's words, or why it is not."""

    FIRST = "first notification"
    NEW = "new alerts added"
    SOME_RESOLVED = "some alerts resolved"
    ALL_RESOLVED = "all alerts resolved"
    REPEAT = "repeat interval elapsed"
    WAITING = "waiting for more alerts of the group"
    UNCHANGED = "nothing new since the last notification"
    SILENCED = "silenced"
    UNTOLD = "over before anybody was told"


TELLS = frozenset({Reason.FIRST, Reason.NEW, Reason.SOME_RESOLVED, Reason.ALL_RESOLVED, Reason.REPEAT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is remembered of a group: its alerts, when it last looked, and what the receiver was last told (fingerprints)."""

    key: str
    labels: Labels
    opened_at: float
    alerts: tuple[Alert, ...] = ()
    looked_at: float | None = None
    told_at: float | None = None
    told_firing: tuple[str, ...] = ()
    told_resolved: tuple[str, ...] = ()
    notices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification to be sent: the alerts of a group that the receiver shall see, firing ones first.

    `opened_at` and `number` tell it from every other notice of a group of that name.
    """

    key: str
    labels: Labels
    opened_at: float
    number: int
    reason: Reason
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The outcome of one look at all groups."""

    notices: tuple[Notice, ...]
    groups: tuple[Group, ...]
    reasons: Mapping[str, Reason]


def route(alerts: Sequence[Alert], groups: Iterable[Group], rules: Route, silences: Sequence[Order], now: float) -> Routed:
    """Look at every group once. Groups of which nothing is left are forgotten."""
    known = {group.key: group for group in groups}
    arrived: dict[str, list[Alert]] = {key: [] for key in known}
    for alert in alerts:
        labels = group_labels(alert, rules.group_by)
        key = group_key(labels)
        known.setdefault(key, Group(key=key, labels=labels, opened_at=now))
        arrived.setdefault(key, []).append(alert)
    notices, kept, reasons = [], [], dict[str, Reason]()
    for key in sorted(known):
        group = replace(known[key], alerts=_updated(known[key].alerts, arrived[key], now))
        reasons[key], notice, group = _look(group, rules, silences, now)
        notices += [notice] if notice else []
        kept += [group] if group.alerts else []
    return Routed(notices=tuple(notices), groups=tuple(kept), reasons=reasons)


def group_labels(alert: Alert, group_by: Sequence[str]) -> Labels:
    """The labels that make the group: those named that the alert has; all of them for `...`."""
    return alert.labels if "..." in group_by else tuple(pair for pair in alert.labels if pair[0] in group_by)


def group_key(labels: Labels) -> str:
    """Alertmanager's group key of a root route: `{}:{alertname="IoStall", subject="volume/scratch"}`."""
    quoted = ((name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels)
    return "{}:{" + ", ".join(f'{name}="{value}"' for name, value in quoted) + "}"


def _updated(before: Iterable[Alert], arrived: Iterable[Alert], now: float) -> tuple[Alert, ...]:
    """Alerts of one group now: those that fire keep their start, those that are gone end."""
    there = {alert.labels: alert for alert in arrived}
    after = []
    for old in before:
        new = there.pop(old.labels, None)
        if new is not None:
            after.append(replace(new, starts_at=old.starts_at if old.ends_at is None else new.starts_at))
        elif old.ends_at is None and not 0 <= now - old.seen_at < old.holds_s:
            after.append(replace(old, ends_at=now))
        else:
            after.append(old)
    return (*after, *there.values())


def _look(group: Group, rules: Route, silences: Sequence[Order], now: float) -> tuple[Reason, Notice | None, Group]:
    since, wait = (group.opened_at, rules.group_wait) if group.looked_at is None else (group.looked_at, rules.group_interval)
    if 0 <= now - since < wait:
        return Reason.WAITING, None, group
    firing = tuple(alert for alert in group.alerts if alert.ends_at is None)
    resolved = tuple(alert for alert in group.alerts if alert.ends_at is not None)
    shown = tuple(alert for alert in firing if not silenced(alert, silences))
    reason = _why(group, firing, shown, resolved, now - rules.repeat_interval)
    after = replace(group, looked_at=now, alerts=firing)
    if reason not in TELLS:
        return reason, None, after
    number = group.notices + 1
    notice = Notice(
        key=group.key, labels=group.labels, opened_at=group.opened_at, number=number, reason=reason, alerts=shown + resolved
    )
    hidden_but_told = (alert.fingerprint for alert in firing if alert not in shown and alert.fingerprint in group.told_firing)
    told = tuple(sorted({*hidden_but_told, *(alert.fingerprint for alert in shown)}))
    over = tuple(sorted(alert.fingerprint for alert in resolved))
    return reason, notice, replace(after, notices=number, told_at=now, told_firing=told, told_resolved=over)


def _why(
    group: Group, firing: tuple[Alert, ...], shown: tuple[Alert, ...], resolved: tuple[Alert, ...], long_ago: float
) -> Reason:
    """Alertmanager's needsUpdate, with names; `long_ago` is when a notice is old enough to be repeated."""
    told = set(group.told_firing)
    if not {alert.fingerprint for alert in shown} <= told:
        return Reason.NEW if told else Reason.FIRST
    news_of_end = {alert.fingerprint for alert in resolved} & told
    if not firing:
        return Reason.ALL_RESOLVED if told else Reason.UNTOLD
    if news_of_end:
        return Reason.SOME_RESOLVED
    if not shown:
        return Reason.SILENCED
    overdue = group.told_at is not None and not long_ago <= group.told_at
    return Reason.REPEAT if overdue else Reason.UNCHANGED
