"""Have the replicas ready before the load is there, and keep them until it has gone.

As one would tell an operator: *"I do what the Horizontal Pod Autoscaler would do now (same tolerance, same stabilisation), and
never less. On top of that I look ahead as far as a new replica takes to start, at the 90 % quantile of a forecast that has
proved its skill; if that load needs more replicas, I start them now, and I do not stop replicas that it will need. Without
fresh load data I stop nothing. When the GPUs wait for storage or network, I do not add GPUs."*

Budgets, cooldowns, modes are `admit`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from aiops.action import Decision, ScaleService
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Finding, Forecast, Matcher, Query, Series, Service
from aiops.settings import seconds
from aiops.snapshot import Need, Snapshot

STALLS = frozenset(
    {Cause.IO_STALL, Cause.PREP_STALL, Cause.NET_CONTENTION, Cause.NOISY_NEIGHBOUR, Cause.STRAGGLER, Cause.SENSOR_FAULT}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings; defaults are the Horizontal Pod Autoscaler's where it has them."""

    tolerance_up: float = 0.1
    tolerance_down: float = 0.1
    average_s: float = 30.0
    stabilise_s: float = 300.0
    grow_ratio: float = 1.0
    grow_by: int = 4
    quantile: float = 0.9
    default_lead_s: float = 300.0
    starts_needed: int = 5
    max_forecast_age_s: float = 900.0  # two refreshes and the step that a forecast's start is rounded down to
    max_load_age_s: float = 60.0
    min_coverage: float = 0.9
    cause_confidence: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known about one service at `now`: load per second (None: not fresh) as of `at`, its peak, demand ahead."""

    load: float | None
    peak: float | None
    at: float | None
    ahead: float | None
    lead_s: float
    lead_from: str
    unforeseen: str


class Prescale:
    """Scales services to max(reactive now, forecast quantile over the lead), clipped to their bounds."""

    name: ClassVar[str] = "prescale"
    every_s: ClassVar[float] = 30.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Prescale:
        """From the section `policies.prescale`; ConfigError names the key that is unknown or out of range."""
        return cls(Rule(**{key: _parsed(key, value, where) for key, value in section.items()}))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """The load of every service, over the stabilisation window and the average before it."""
        return [Need(query=self._query(service), max_age_s=self.rule.max_load_age_s) for service in cluster.services]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """One decision or one note per service, by name."""
        for service in sorted(snapshot.cluster.services, key=lambda service: service.name):
            yield self._scale(snapshot, service, self._outlook(snapshot, service))

    def _query(self, service: Service) -> Query:
        matchers = tuple(Matcher(label, value) for label, value in service.load.labels)
        return Query(metric=service.load.metric, matchers=matchers, window_s=self.rule.stabilise_s + self.rule.average_s)

    def _outlook(self, snapshot: Snapshot, service: Service) -> Outlook:
        found = snapshot.of(self._query(service))
        series = found[0] if len(found) == 1 else None
        lead_s, lead_from = lead(service, self.rule, self.every_s)
        load, peak = (None, None) if series is None else reactive(series, snapshot.now, self.rule)
        forecast = snapshot.forecast(str(series.key if series else service.load))
        unforeseen = distrust(forecast, snapshot.now, self.rule)
        ahead = None if unforeseen or forecast is None else demand(forecast, snapshot.now, lead_s, self.rule.quantile)
        at = None if series is None or load is None else series.latest(snapshot.now, self.rule.max_load_age_s).at
        return Outlook(load=load, peak=peak, at=at, ahead=ahead, lead_s=lead_s, lead_from=lead_from, unforeseen=unforeseen)

    def _scale(self, snapshot: Snapshot, service: Service, outlook: Outlook) -> Decision | str:
        wanted, why = self._wanted(service, outlook)
        target = min(max(wanted, service.min_replicas), service.max_replicas)
        if target > service.replicas:
            target = min(
                target, max(math.floor(service.replicas * (1 + self.rule.grow_ratio)), service.replicas + self.rule.grow_by)
            )
        capped = "" if target == wanted else f", capped to {target} ({service.min_replicas}..{service.max_replicas})"
        if target == service.replicas:
            return f"{service.name}: {why}{capped}; stays at {target}"
        stall = next((f for f in snapshot.findings if self._stalled(f, service, snapshot)), None)
        if stall is not None and target > service.replicas:
            return f"{service.name}: {stall.cause.value} on {stall.subject}: more replicas would not help; {target} refused"
        action = ScaleService(
            service=service.name, uid=service.uid, version=service.version, replicas=target, was=service.replicas
        )
        return Decision(
            policy=self.name,
            action=action,
            reason=f"{service.name}: {service.replicas} -> {target}: {why}{capped}",
            evidence=tuple(_evidence(service, outlook)),
            expect=f"{service.name} has {target} replicas",
            within_s=outlook.lead_s + 2 * self.every_s,
            inputs_at=outlook.at,
        )

    def _wanted(self, service: Service, outlook: Outlook) -> tuple[int, str]:
        """Replicas wanted before the bounds, and why: growth by now or by forecast, shrinking by both."""
        rule, now = self.rule, service.replicas
        full = now * service.target
        if outlook.load is not None and outlook.load > full * (1 + rule.tolerance_up):
            needed = math.ceil(outlook.load / service.target)
            ahead = 0 if outlook.ahead is None else math.ceil(outlook.ahead / service.target)
            return max(needed, ahead), f"load {outlook.load:.4g} needs {needed} x {service.target:g}"
        if outlook.ahead is not None and outlook.ahead > full * (1 + rule.tolerance_up):
            needed = math.ceil(outlook.ahead / service.target)
            soon = f"{outlook.ahead:.4g} (P{100 * rule.quantile:.0f}) within {outlook.lead_s:.0f} s"
            return needed, f"{soon} needs {needed} x {service.target:g}"
        if outlook.load is None or outlook.peak is None:
            return now, "load is stale or missing: nothing is taken away"
        most = max(outlook.peak, outlook.ahead or 0.0)
        needed = math.ceil(most / service.target)
        if needed >= now or most >= full * (1 - rule.tolerance_down):
            return now, f"load {outlook.load:.4g} of {full:.4g} is within tolerance or stabilising"
        return (
            needed,
            f"no more than {most:.4g} in the last {rule.stabilise_s:.0f} s or ahead: {needed} x {service.target:g} do",
        )

    def _stalled(self, finding: Finding, service: Service, snapshot: Snapshot) -> bool:
        """A sure stall that names the service; or the service suffers, and the stall is in the chain or under half its pool.

        Whatever else it may suffer from: replicas that wait for storage do not serve a grown load either.
        """
        sure = finding.cause in STALLS and finding.confidence >= self.rule.cause_confidence
        if not sure or service.gpus_per_replica == 0:
            return False
        suffers = [one for one in snapshot.findings if _names(one.sli or "", service)]
        traced = any(finding.subject in one.chain for one in suffers)
        beneath = bool(suffers) and _share_stalled(snapshot, service, self.rule.cause_confidence) >= 0.5
        return traced or beneath or any(_names(part, service) for part in (finding.subject, finding.sli or "", *finding.chain))


def _names(entity: str, service: Service) -> bool:
    return service.name in entity.split(":")


def _share_stalled(snapshot: Snapshot, service: Service, confidence: float) -> float:
    """Share of the nodes of the service's pool with a sure stall on one of their parts (`disk:NODE/DEVICE`, `host:NODE`)."""
    sure = [one for one in snapshot.findings if one.cause in STALLS and one.confidence >= confidence]
    stalled = {one.subject.partition(":")[2].partition("/")[0] for one in sure}
    members = [node.name for node in snapshot.cluster.nodes if node.pool == service.pool]
    return sum(name in stalled for name in members) / len(members) if members else 0.0


def lead(service: Service, rule: Rule, period_s: float) -> tuple[float, str]:
    """Seconds to look ahead, and where the figure comes from: measured P90 start-up plus one loop period."""
    if len(service.start_s) < rule.starts_needed:
        return rule.default_lead_s, f"default, {len(service.start_s)} starts measured"
    return float(np.quantile(service.start_s, 0.9)) + period_s, f"P90 of {len(service.start_s)} starts"


def reactive(series: Series, now: float, rule: Rule) -> tuple[float | None, float | None]:
    """Mean load of the last `average_s` (None unless fresh), and the largest such mean of the stabilisation window.

    The peak is None where the window is not covered: what was not seen may have been a peak.
    """
    if not series.latest(now, rule.max_load_age_s).fresh:
        return None, None
    known = np.isfinite(series.values)
    times, values = series.times[known], series.values[known]
    ends = times[times > now - rule.stabilise_s]
    means = [float(values[(times > end - rule.average_s) & (times <= end)].mean()) for end in ends]
    gaps = np.diff(np.concatenate([[now - rule.stabilise_s], ends, [now]]))
    covered = 1 - gaps[gaps > rule.max_load_age_s].sum() / rule.stabilise_s >= rule.min_coverage
    return means[-1], max(means) if covered else None


def distrust(forecast: Forecast | None, now: float, rule: Rule) -> str:
    """Why a forecast must not be used, '' where it may."""
    if forecast is None:
        return "no forecast"
    if forecast.refused is not None:
        return forecast.refused
    if not 0 <= now - forecast.made_at <= rule.max_forecast_age_s:
        return f"forecast is {now - forecast.made_at:.0f} s old"
    return "" if np.isfinite(forecast.values).all() and (forecast.values >= 0).all() else "forecast is absurd"


def demand(forecast: Forecast, now: float, lead_s: float, quantile: float) -> float:
    """Largest forecast demand in [now, now + lead], linear between forecast points."""
    inside = forecast.times[(forecast.times > now) & (forecast.times < now + lead_s)]
    moments = np.concatenate([[now], inside, [now + lead_s]])
    return float(np.interp(moments, forecast.times, forecast.at_quantile(quantile)).max())


def _evidence(service: Service, outlook: Outlook) -> Iterator[str]:
    yield f"load {'stale or missing' if outlook.load is None else f'{outlook.load:.6g}'} for {service.replicas} replicas"
    yield f"lead {outlook.lead_s:.0f} s ({outlook.lead_from})"
    yield f"forecast not used: {outlook.unforeseen}" if outlook.unforeseen else f"demand ahead {outlook.ahead:.6g}"


def _parsed(key: str, value: Any, where: str) -> Any:
    known = {field.name: field.type for field in fields(Rule)}
    path = f"policies.prescale.{key}"
    if key not in known:
        raise ConfigError(where, path, f"unknown key; expected one of: {', '.join(known)}")
    try:
        number = seconds(value) if key.endswith("_s") else float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(where, path, f"expected {error}") from None
    ratio = key in ("tolerance_up", "tolerance_down", "quantile", "min_coverage", "cause_confidence")
    if not (0 < number < 1 if ratio else 0 < number < 1e9):
        raise ConfigError(
            where, path, f"expected {'a ratio between 0 and 1' if ratio else 'a number above 0'}, found {value!r}"
        )
    return int(number) if known[key] == "int" else number
