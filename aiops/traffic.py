"""How busy a link is: rates from the counters of its device, as they lie in a snapshot. Pure.

Its place: beside `snapshot.py`, for the core (which admits guarantees by measured traffic, not by nominal speed) and for
policies alike. What is not measured is None, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aiops.model import Floats, Link, Match, Matcher, Query, Series
from aiops.snapshot import Snapshot

WINDOW_S, STEP_S = 900.0, 10.0
NOW_S = 60.0  # "now" is the mean of the last minute: one scrape's burst is no congestion
_LEAST_RATES = 6
_DISK = ("node_disk_read_bytes_total", "node_disk_written_bytes_total")
_NIC = ("node_network_receive_bytes_total", "node_network_transmit_bytes_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Bytes per second on a link: mean of the last minute, P95 of the last quarter of an hour, most within `NOW_S` x 2."""

    now: float
    p95: float
    recent_peak: float
    at: float


def queries(links: Iterable[Link]) -> tuple[Query, ...]:
    """What a policy must declare so that `use` can answer for these links; empty where none names a device."""
    names = sorted({re.escape(link.device) for link in links if link.device})
    if not names:
        return ()
    device = Matcher("device", "|".join(names), Match.REGEX)
    return tuple(Query(metric=m, matchers=(device,), window_s=WINDOW_S, step_s=STEP_S) for m in (*_DISK, *_NIC))


def uses(snapshot: Snapshot) -> dict[str, Use | None]:
    """`use` of every link, by name."""
    links = snapshot.cluster.links
    below = _below(links)
    return {link.name: _use(snapshot, link, (below, frozenset())) for link in links}


def use(snapshot: Snapshot, link: Link) -> Use | None:
    """Measured traffic of a link; of one without a device the sum of its children's, if each is known; else None."""
    return _use(snapshot, link, (_below(snapshot.cluster.links), frozenset()))


Tree = dict[str, list[Link]]


def _below(links: Iterable[Link]) -> Tree:
    found: Tree = {}
    for link in links:
        found.setdefault(link.parent, []).append(link)
    return found


def _use(snapshot: Snapshot, link: Link, tree: tuple[Tree, frozenset[str]]) -> Use | None:
    if link.device:
        return _measured(snapshot, link)
    below, above = tree[0], tree[1] | {link.name}
    children = [one for one in below.get(link.name, ()) if one.name not in above]
    parts = [_use(snapshot, child, (below, above)) for child in children]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        told = link.used_bytes_per_s
        return None if told is None else Use(now=told, p95=told, recent_peak=told, at=snapshot.cluster.at)
    return Use(
        now=sum(one.now for one in known), p95=sum(one.p95 for one in known),
        recent_peak=sum(one.recent_peak for one in known), at=min(one.at for one in known),
    )  # fmt: skip


def _measured(snapshot: Snapshot, link: Link) -> Use | None:
    disk, nic = (_both(snapshot, link, names) for names in (_DISK, _NIC))
    if disk is not None:
        times, values = disk[0], disk[1] + disk[2]  # one head, one queue
    elif nic is not None:
        times, values = nic[0], np.maximum(nic[1], nic[2])  # full duplex: each direction has the whole capacity
    else:
        return None
    if len(times) < _LEAST_RATES or not 0 <= snapshot.now - times[-1] <= NOW_S:
        return None
    last = values[times > times[-1] - NOW_S]
    recent = values[times > times[-1] - 2 * NOW_S]
    return Use(
        now=float(last.mean()), p95=float(np.quantile(values, 0.95)), recent_peak=float(recent.max()), at=float(times[-1])
    )


def _both(snapshot: Snapshot, link: Link, metrics: tuple[str, str]) -> tuple[Floats, Floats, Floats] | None:
    """Rates of both directions at the moments where both are known."""
    found = [_rates(series) for metric in metrics for series in _series(snapshot, link, metric)[:1]]
    if len(found) < 2:
        return None
    (t1, v1), (t2, v2) = found
    times, first, second = np.intersect1d(t1, t2, return_indices=True)
    return times, v1[first], v2[second]


def _series(snapshot: Snapshot, link: Link, metric: str) -> list[Series]:
    every = (series for found in snapshot.series.values() for series in found if series.key.metric == metric)
    same = [series for series in every if series.key.label("device") == link.device]
    return [series for series in same if not link.node or series.key.label("node") in (None, link.node)]


def _rates(series: Series) -> tuple[Floats, Floats]:
    """Per interval its end and its rate; an interval in which the counter went back (a reset) is left out."""
    known = np.isfinite(series.values)
    times, values = series.times[known], series.values[known]
    rises, spans = np.diff(values), np.diff(times)
    good = (rises >= 0) & (spans > 0)
    return times[1:][good], rises[good] / spans[good]
