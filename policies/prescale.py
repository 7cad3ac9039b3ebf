"""Have the replicas ready before the load is there, and keep them until it has gone.

As one would tell an operator: *"I do what the Horizontal Pod Autoscaler would do now (same tolerance, same stabilisation), and
never less; a burst that stands out of the noise I see in one sample. On top of that I look ahead as far as a new replica takes
to start, at the 95 % quantile of a forecast that has proved its skill; if that load needs more replicas, I start them now, and
I do not stop replicas that it will need. Where a service has a promised latency and is measured to keep it, I give its
replicas a tenth more than their target, let the load rise a fifth above that before I add any, and keep in hand what it
usually surges by while one starts. Without fresh load data I stop nothing. When the GPUs wait for storage or network, or
requests only take longer and I cannot know why yet, I do not add GPUs."* Pools of nodes: `pools.py`.

Budgets, cooldowns, modes are `admit`'s business.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from aiops.action import Decision, ScaleService
from aiops.errors import ConfigError
from aiops.model import Cluster, Service
from aiops.snapshot import Need, Snapshot
from policies.outlook import Outlook, Rule, look, needs_of
from policies.pools import needs_of_pools, scale_pools
from policies.rules import rule_of
from policies.stalls import stalled

SETTLE_S = 60.0
"""Beyond the start-up: one late cycle, one lost reply and its reading."""

MOST = 1e9
"""Replicas beyond anybody's bound."""

RATIOS = (
    "tolerance_up", "tolerance_down", "tolerance_slo", "slo_share", "surge", "quantile", "min_coverage", "cause_confidence",
    "pool_quantile",
)  # fmt: skip


class Prescale:
    """Scales services and pools to max(reactive now, forecast quantile over the lead), clipped to their bounds."""

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
        """What is looked at, of every service and pool."""
        pools = needs_of_pools(cluster, self.rule) if self.rule.pools else []
        return [*(need for service in cluster.services for need in needs_of(service, self.rule)), *pools]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """One decision or one note per service, by name, and per pool that may be scaled."""
        ordered = Counter[str]()
        for service in sorted(snapshot.cluster.services, key=lambda service: service.name):
            if service.min_replicas > service.max_replicas or not 0 < service.target < math.inf:
                bounds = f"{service.min_replicas}..{service.max_replicas} replicas of {service.target:g} each"
                yield f"{service.name}: {bounds} make no sense; stays at {service.replicas}"
                continue
            answer = self._scale(snapshot, service, look(snapshot, service, self.rule, self.every_s))
            if isinstance(answer, Decision) and isinstance(answer.action, ScaleService):
                more = max(0, answer.action.replicas - answer.action.was)
                ordered[service.pool] += more * service.gpus_per_replica
            yield answer
        if self.rule.pools:
            yield from scale_pools(snapshot, self.rule, (self.name, self.every_s), ordered)

    def _scale(self, snapshot: Snapshot, service: Service, outlook: Outlook) -> Decision | str:
        wanted, why = wish(service, outlook, self.rule)
        target = min(max(wanted, service.min_replicas), service.max_replicas)
        if target > service.replicas:
            target = min(
                target, max(math.floor(service.replicas * (1 + self.rule.grow_ratio)), service.replicas + self.rule.grow_by)
            )
        capped = "" if target == wanted else f", capped to {target} ({service.min_replicas}..{service.max_replicas})"
        if target < service.replicas and (outlook.load is None or outlook.peak is None):
            return f"{service.name}: {why}, not even what is beyond {service.max_replicas}; stays at {service.replicas}"
        if target == service.replicas:
            return f"{service.name}: {why}{capped}; stays at {target}"
        held = self._held(snapshot, service, outlook) if target > service.replicas else ""
        if held:
            return f"{service.name}: {held}; {target} refused"
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

    def _held(self, snapshot: Snapshot, service: Service, outlook: Outlook) -> str:
        """Why no GPU is added although the load asks for it, '' where nothing speaks against it."""
        stall = next((f for f in snapshot.findings if stalled(f, service, snapshot, self.rule.cause_confidence)), None)
        if stall is not None:
            return f"{stall.cause.value} on {stall.subject}: more replicas would not help"
        load, asked, borne, now = outlook.load, outlook.asked, outlook.borne, service.replicas
        if load is None or asked is None or borne is None or service.gpus_per_replica == 0:
            return ""
        longer = load > asked * (1 + self.rule.tolerance_up)
        if not (longer and outlook.enough(asked, now) and outlook.enough(borne, now)):
            return ""
        told = f"{load:.4g} in flight, {asked:.4g} at their usual time: requests take longer, no more come"
        return f"{told}; {self.rule.diagnosis_s:.0f} s to find out why"


def wish(service: Service, outlook: Outlook, rule: Rule) -> tuple[int, str]:
    """Replicas wanted before the bounds, and why: growth by now or by forecast, shrinking by both."""
    now, right = service.replicas, outlook.right
    full = now * right
    if outlook.load is not None and outlook.likely is not None and not outlook.enough(outlook.likely, now):
        needed = _ceil(outlook.likely / outlook.hurried)
        ahead = 0 if outlook.ahead is None else _ceil(outlook.ahead / right)
        surge = f", which usually surges to {outlook.likely:.4g}," if outlook.likely > outlook.load else ""
        return max(needed, ahead), f"load {outlook.load:.4g}{surge} needs {needed} x {outlook.hurried:g}"
    if outlook.ahead is not None and not outlook.enough(outlook.ahead, now):
        needed = _ceil(outlook.ahead / right)
        soon = f"{outlook.ahead:.4g} (P{100 * rule.quantile:.0f}) within {outlook.lead_s:.0f} s"
        return needed, f"{soon} needs {needed} x {right:g}"
    if outlook.load is None or outlook.peak is None:
        return now, "load is stale or missing: nothing is taken away"
    most = max(outlook.peak, outlook.later or 0.0)
    needed = _ceil(most / right)
    if needed >= now or most >= full * (1 - rule.tolerance_down):
        return now, f"load {outlook.load:.4g} of {full:.4g} is within tolerance or stabilising"
    return needed, f"no more than {most:.4g} in the last {rule.stabilise_s:.0f} s or ahead: {needed} x {right:g} do"


def _ceil(replicas: float) -> int:
    """Whole replicas; what is absurdly large stays a number, for the bounds to cut."""
    return math.ceil(min(replicas, MOST))


def _evidence(service: Service, outlook: Outlook) -> Iterator[str]:
    yield f"load {'stale or missing' if outlook.load is None else f'{outlook.load:.6g}'} for {service.replicas} replicas"
    yield f"lead {outlook.lead_s:.0f} s ({outlook.lead_from})"
    if outlook.answers:
        yield f"{outlook.answers}: up to {outlook.right * (1 + outlook.tolerance) / service.target:g} x the target is borne"
    yield f"forecast not used: {outlook.unforeseen}" if outlook.unforeseen else f"demand ahead {outlook.ahead:.6g}"
