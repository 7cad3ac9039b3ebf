"""What `prescale` knows of one service: its load now and lately, how it surges, what is foreseen, and how much is borne.

Reads a snapshot and answers with numbers; what follows from them for the replicas is `prescale`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiops.model import Cluster, Matcher, Query, Series, SeriesKey, Service
from aiops.snapshot import Need, Snapshot
from policies.load import BEFORE_S, PAST_S, covered, demand, distrust, known, lead, reactive, surges
from policies.stalls import asked_for, counts_in_flight

ARRIVALS = "service_requests_per_second"
"""What comes, whatever the load counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings; defaults are the Horizontal Pod Autoscaler's where it has them, and all of them where no latency is promised.

    While a service's own latency is measured below `slo_share` of what was promised, and until it has not been for
    `diagnosis_s` (the time to find out whether replicas are what is wanting), a replica is given `bearable` times its target,
    and replicas are added only when the load is `tolerance_slo` beyond that (not where nodes come and go: `awaits_nodes`): a
    target is usually 70 % of what a replica can carry, so 77 %, and at most 92 %. In return the load counts as higher than it
    is, by the `surge` quantile of the surges within a start-up that the last hour has seen, and once answers are late as many
    are added as the target asks for, since a queue has to be worked off. `quantile` is the newsvendor's: a replica too few
    costs 19 times what one too many does. What is foreseen within a start-up and `keep_s` is not taken away. `burst` is in
    standard deviations: 4 are passed by chance once in 30,000 samples, three days of them.

    For pools (`pools: false`: services only): `pool_quantile` because a node costs more than a replica; `unneeded_s` and
    `remove_at_once` are the cluster-autoscaler's, the second as far as the safety limits allow it.
    """

    tolerance_up: float = 0.1
    tolerance_down: float = 0.1
    tolerance_slo: float = 0.2
    bearable: float = 1.1
    slo_share: float = 0.8
    diagnosis_s: float = 90.0
    burst: float = 4.0
    surge: float = 0.75
    average_s: float = 30.0
    stabilise_s: float = 300.0
    keep_s: float = 600.0
    grow_ratio: float = 1.0
    grow_by: int = 4
    quantile: float = 0.95
    default_lead_s: float = 300.0
    starts_needed: int = 5
    max_forecast_age_s: float = 900.0  # two refreshes and the step that a forecast's start is rounded down to
    max_load_age_s: float = 60.0
    min_coverage: float = 0.9
    cause_confidence: float = 0.6
    pools: bool = True
    pool_quantile: float = 0.9
    unneeded_s: float = 600.0
    remove_at_once: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known about one service at `now`: load per second (None: not fresh) as of `at`, and what may become of it.

    `likely` is the load with the surge that is usual within a start-up, `peak` its largest of the stabilisation window. `right`
    is the load that a replica should have, `hurried` what it is given where replicas are added now, `tolerance` how far the
    load may rise above what is right before they are, `answers` why. `ahead` is the demand foreseen within a start-up, `later`
    within a start-up and what is kept for. Of a load that counts requests in flight, `asked` is what it would be if each took
    its usual time, `borne` its least of late.
    """

    load: float | None
    likely: float | None
    peak: float | None
    at: float | None
    right: float
    hurried: float
    tolerance: float
    answers: str
    ahead: float | None
    later: float | None
    lead_s: float
    lead_from: str
    unforeseen: str
    asked: float | None
    borne: float | None

    def enough(self, load: float, replicas: int) -> bool:
        """Whether nobody would add replicas for this load."""
        return load <= replicas * self.right * (1 + self.tolerance)


def look(snapshot: Snapshot, service: Service, rule: Rule, period_s: float) -> Outlook:
    """Everything that is known about a service; `period_s` is how long until the next look."""
    now, series = snapshot.now, only(snapshot, load_of(service, rule))
    lead_s, lead_from = lead(service.start_s, (rule.default_lead_s, rule.starts_needed), period_s)
    slack = latency_of(service, rule) is not None and not awaits_nodes(snapshot.cluster, service)
    load, likely, peak = now_and_peak(series, now, rule, lead_s if slack else 0.0) if series else (None, None, None)
    forecast = snapshot.forecast(str(series.key if series else service.load))
    unforeseen = distrust(forecast, now, rule.max_forecast_age_s)
    trusted = None if unforeseen else forecast
    spare = 1 + rule.tolerance_up  # within tolerance of an upper quantile nobody would add another
    kept, late, answers = keeps_promise(snapshot, service, rule)
    right = service.target * (max(1.0, rule.bearable) if kept and slack else 1.0)
    asked, borne = waiting(snapshot, service, rule) if series else (None, None)
    return Outlook(
        asked=asked,
        borne=borne,
        load=load,
        likely=likely,
        peak=peak,
        at=None if series is None or load is None else series.latest(now, rule.max_load_age_s).at,
        right=right,
        hurried=service.target if late else right,
        tolerance=max(rule.tolerance_up, rule.tolerance_slo) if kept and slack else rule.tolerance_up,
        answers=answers,
        ahead=None if trusted is None else demand(trusted, now, lead_s, rule.quantile) / (spare if kept else 1.0),
        later=None if trusted is None else demand(trusted, now, lead_s + rule.keep_s, rule.quantile) / spare,
        lead_s=lead_s,
        lead_from=lead_from,
        unforeseen=unforeseen,
    )


Loads = tuple[float | None, float | None, float | None]


def now_and_peak(series: Series, now: float, rule: Rule, lead_s: float = 0.0) -> Loads:
    """Load now, with its usual surge within `lead_s` (0: none is reckoned with), and at its largest; None unless fresh.

    The peak is None where the stabilisation window is not covered: what was not seen may have been a peak.
    """
    if not series.latest(now, rule.max_load_age_s).fresh:
        return None, None, None
    times, load = reactive(series, now, (rule.stabilise_s, rule.average_s, rule.burst))
    likely = load
    if lead_s:
        level, factor = surges(series, now, (lead_s, rule.surge))
        likely = np.maximum(load, factor * level[len(level) - len(load) :])
    whole = covered(times, now, rule.stabilise_s, rule.max_load_age_s) >= rule.min_coverage
    return float(load[-1]), float(likely[-1]), float(likely.max()) if whole else None


def keeps_promise(snapshot: Snapshot, service: Service, rule: Rule) -> tuple[bool, bool, str]:
    """Whether a latency is promised and measured to be kept, whether answers are late just now, and what was measured.

    One that is not kept counts only when the diagnosis has had its time: at a load that was borne a minute ago, a slow disk is
    as likely as few replicas.
    """
    query = latency_of(service, rule)
    series = None if query is None else only(snapshot, query)
    if series is None or service.slo_s is None or not series.latest(snapshot.now, rule.max_load_age_s).fresh:
        return False, False, ""
    _, values = known(series, snapshot.now)
    best, enough = float(values.min()), rule.slo_share * service.slo_s
    return 0 <= best <= enough, bool(values[-1] > enough), f"answers take {best:.3g} s of {service.slo_s:g} s at best"


def awaits_nodes(cluster: Cluster, service: Service) -> bool:
    """Whether a replica more may have to wait for a node: minutes that only slack bridges, so none is spent beforehand, nor
    is any bought back by keeping surges in hand.
    """
    return any(pool.name == service.pool and pool.min_nodes < pool.max_nodes for pool in cluster.pools)


def waiting(snapshot: Snapshot, service: Service, rule: Rule) -> tuple[float | None, float | None]:
    """(`asked`, `borne`) of an Outlook; None for a load that does not count requests in flight, or where nothing tells."""
    load = only(snapshot, load_of(service, rule))
    if load is None or not counts_in_flight(service.load):
        return None, None
    arrivals = only(snapshot, query_of(SeriesKey.of(ARRIVALS, service=service.name), PAST_S))
    answers = None if service.latency is None else only(snapshot, query_of(service.latency, PAST_S))
    lately = load.values[(load.times > snapshot.now - rule.diagnosis_s) & np.isfinite(load.values)]
    asked = asked_for(load, (arrivals, answers), snapshot.now, (rule.average_s, rule.diagnosis_s))
    return asked, float(lately.min()) if len(lately) else None


def needs_of(service: Service, rule: Rule) -> Iterator[Need]:
    """The load of a service; its latency, if promised; what tells a stall, where the load counts requests in flight."""
    yield Need(query=load_of(service, rule), max_age_s=rule.max_load_age_s)
    beside = [latency_of(service, rule)]
    if counts_in_flight(service.load):
        beside.append(query_of(SeriesKey.of(ARRIVALS, service=service.name), PAST_S))
        beside.append(None if service.latency is None else query_of(service.latency, PAST_S))
    yield from (Need(query=query, required=False) for query in beside if query is not None)


def load_of(service: Service, rule: Rule) -> Query:
    """The load of a service, over all that is looked back on."""
    return query_of(service.load, max(PAST_S, rule.stabilise_s + max(rule.average_s, BEFORE_S)))


def latency_of(service: Service, rule: Rule) -> Query | None:
    """The answer times of a service, where they are promised."""
    promised = service.latency is not None and service.slo_s is not None
    return query_of(service.latency, rule.diagnosis_s) if promised and service.latency is not None else None


def query_of(key: SeriesKey, window_s: float) -> Query:
    """Exactly one series, by all its labels."""
    return Query(metric=key.metric, matchers=tuple(Matcher(label, value) for label, value in key.labels), window_s=window_s)


def only(snapshot: Snapshot, query: Query) -> Series | None:
    """The series that a declared query found, None unless it is one."""
    found = snapshot.of(query)
    return found[0] if len(found) == 1 else None
