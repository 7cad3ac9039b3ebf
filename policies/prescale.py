"""Have the replicas ready before the load is there, and keep them until it has gone.

As one would tell an operator: *"I do what the Horizontal Pod Autoscaler would do now (same tolerance, same stabilisation), and
never less; a burst that stands out of the noise I see in one sample. On top of that I look ahead as far as a new replica takes
to start, at the 90 % quantile of a forecast that has proved its skill; if that load needs more replicas, I start them now, and
I do not stop replicas that it will need. Where a service has a promised latency and is measured to keep it, I let its load rise
further above the target before I add replicas. Without fresh load data I stop nothing. When the GPUs wait for storage or
network, I do not add GPUs."*

Budgets, cooldowns, modes are `admit`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiops.action import Decision, ScaleService
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Finding, Matcher, Query, Series, SeriesKey, Service
from aiops.snapshot import Need, Snapshot
from policies.load import BEFORE_S, covered, demand, distrust, lead, reactive
from policies.rules import rule_of

STALLS = frozenset(
    {Cause.IO_STALL, Cause.PREP_STALL, Cause.NET_CONTENTION, Cause.NOISY_NEIGHBOUR, Cause.STRAGGLER, Cause.SENSOR_FAULT}
)


SETTLE_S = 60.0
"""Beyond the start-up: one late cycle, one lost reply and its reading."""

RATIOS = ("tolerance_up", "tolerance_down", "tolerance_slo", "slo_share", "quantile", "min_coverage", "cause_confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings; defaults are the Horizontal Pod Autoscaler's where it has them.

    `tolerance_slo` takes the place of `tolerance_up` while the service's own latency is measured below `slo_share` of what was
    promised, and until it has not been for `diagnosis_s`, the time to find out whether replicas are what is wanting. A target
    is usually 70 % of what a replica can carry, and a quarter above that is 88 %. `burst` is in standard deviations: 4 are
    passed by chance once in 30,000 samples, three days of them.
    """

    tolerance_up: float = 0.1
    tolerance_down: float = 0.1
    tolerance_slo: float = 0.25
    slo_share: float = 0.8
    diagnosis_s: float = 90.0
    burst: float = 4.0
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
    """What is known about one service at `now`: load per second (None: not fresh) as of `at`, its peak, demand ahead.

    `tolerance` is how far the load may rise above the target before replicas are added, `answers` why.
    """

    load: float | None
    peak: float | None
    at: float | None
    tolerance: float
    answers: str
    ahead: float | None
    lead_s: float
    lead_from: str
    unforeseen: str


class Prescale:
    """Scales services to max(reactive now, forecast quantile over the lead), clipped to their bounds."""

    name: ClassVar[str] = "prescale"
    every_s: ClassVar[float] = 10.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Prescale:
        """From the section `policies.prescale`; ConfigError names the key that is unknown or out of range."""
        rule = rule_of(Rule, section, where, cls.name)
        for key in RATIOS:
            if not getattr(rule, key) < 1:
                path = f"policies.{cls.name}.{key}"
                raise ConfigError(where, path, f"expected a ratio between 0 and 1, found {getattr(rule, key)!r}")
        return cls(rule)

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """The load of every service, over the stabilisation window and what is averaged before it; its latency, if promised."""
        loads = [Need(query=self._load(service), max_age_s=self.rule.max_load_age_s) for service in cluster.services]
        promised = [_latency(service, self.rule) for service in cluster.services]
        return [*loads, *(Need(query=query, required=False) for query in promised if query is not None)]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """One decision or one note per service, by name."""
        for service in sorted(snapshot.cluster.services, key=lambda service: service.name):
            yield self._scale(snapshot, service, self._outlook(snapshot, service))

    def _load(self, service: Service) -> Query:
        return _query(service.load, self.rule.stabilise_s + max(self.rule.average_s, BEFORE_S))

    def _outlook(self, snapshot: Snapshot, service: Service) -> Outlook:
        rule, now = self.rule, snapshot.now
        series = _only(snapshot, self._load(service))
        lead_s, lead_from = lead(service.start_s, (rule.default_lead_s, rule.starts_needed), self.every_s)
        load, peak = (None, None) if series is None else now_and_peak(series, now, rule)
        forecast = snapshot.forecast(str(series.key if series else service.load))
        unforeseen = distrust(forecast, now, rule.max_forecast_age_s)
        tolerance, answers = bearable(snapshot, service, rule)
        return Outlook(
            load=load,
            peak=peak,
            at=None if series is None or load is None else series.latest(now, rule.max_load_age_s).at,
            tolerance=tolerance,
            answers=answers,
            ahead=None if unforeseen or forecast is None else demand(forecast, now, lead_s, rule.quantile),
            lead_s=lead_s,
            lead_from=lead_from,
            unforeseen=unforeseen,
        )

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
            within_s=outlook.lead_s + SETTLE_S,
            inputs_at=outlook.at,
        )

    def _wanted(self, service: Service, outlook: Outlook) -> tuple[int, str]:
        """Replicas wanted before the bounds, and why: growth by now or by forecast, shrinking by both."""
        rule, now = self.rule, service.replicas
        full = now * service.target
        if outlook.load is not None and outlook.load > full * (1 + outlook.tolerance):
            needed = math.ceil(outlook.load / service.target)
            ahead = 0 if outlook.ahead is None else math.ceil(outlook.ahead / service.target)
            return max(needed, ahead), f"load {outlook.load:.4g} needs {needed} x {service.target:g}"
        if outlook.ahead is not None and outlook.ahead > full * (1 + outlook.tolerance):
            needed = math.ceil(outlook.ahead / service.target)
            soon = f"{outlook.ahead:.4g} (P{100 * rule.quantile:.0f}) within {outlook.lead_s:.0f} s"
            return needed, f"{soon} needs {needed} x {service.target:g}"
        if outlook.load is None or outlook.peak is None:
            return now, "load is stale or missing: nothing is taken away"
        kept = (outlook.ahead or 0.0) / (1 + rule.tolerance_up)  # within tolerance nobody would start another
        most = max(outlook.peak, kept)
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


def now_and_peak(series: Series, now: float, rule: Rule) -> tuple[float | None, float | None]:
    """Load now (None unless fresh), and its peak over the stabilisation window.

    The peak is None where the window is not covered: what was not seen may have been a peak.
    """
    if not series.latest(now, rule.max_load_age_s).fresh:
        return None, None
    times, load = reactive(series, now, (rule.stabilise_s, rule.average_s, rule.burst))
    whole = covered(times, now, rule.stabilise_s, rule.max_load_age_s) >= rule.min_coverage
    return float(load[-1]), float(load.max()) if whole else None


def bearable(snapshot: Snapshot, service: Service, rule: Rule) -> tuple[float, str]:
    """How far the load may rise above the target before replicas are added, and why.

    More than usual only where a latency is promised and measured just now. One that is not kept takes the larger tolerance
    away when the diagnosis has had its time: at a load that was borne a minute ago, a slow disk is as likely as few replicas.
    """
    query = _latency(service, rule)
    series = None if query is None else _only(snapshot, query)
    if series is None or service.slo_s is None or not series.latest(snapshot.now, rule.max_load_age_s).fresh:
        return rule.tolerance_up, ""
    best = float(min(value for value in series.values.tolist() if math.isfinite(value)))
    told = f"answers take {best:.3g} s of {service.slo_s:g} s at best"
    kept = 0 <= best <= rule.slo_share * service.slo_s
    return max(rule.tolerance_up, rule.tolerance_slo) if kept else rule.tolerance_up, told


def _latency(service: Service, rule: Rule) -> Query | None:
    promised = service.latency is not None and service.slo_s is not None
    return _query(service.latency, rule.diagnosis_s) if promised and service.latency is not None else None


def _query(key: SeriesKey, window_s: float) -> Query:
    return Query(metric=key.metric, matchers=tuple(Matcher(label, value) for label, value in key.labels), window_s=window_s)


def _only(snapshot: Snapshot, query: Query) -> Series | None:
    found = snapshot.of(query)
    return found[0] if len(found) == 1 else None


def _evidence(service: Service, outlook: Outlook) -> Iterator[str]:
    yield f"load {'stale or missing' if outlook.load is None else f'{outlook.load:.6g}'} for {service.replicas} replicas"
    yield f"lead {outlook.lead_s:.0f} s ({outlook.lead_from})"
    if outlook.answers:
        yield f"{outlook.answers}: up to {1 + outlook.tolerance:g} x the target is borne"
    yield f"forecast not used: {outlook.unforeseen}" if outlook.unforeseen else f"demand ahead {outlook.ahead:.6g}"
