"""Keep the promises on links, and let bulk traffic give way before anybody waits.

As one would tell an operator: *"I give each owner the guarantee that you declared while it runs, and take it back when it has
ended. When a link is more than 70 % busy (or is found to be congested), transfers that you called bulk are capped, jobs that
can compress more do so, and who takes more than 1.1 times its guarantee is held to it. When the link has been under 50 % for
two minutes all of that goes back by itself. A link whose traffic is not measured is left alone."*

Whether a guarantee fits is the core's business: it counts the P95 of the measured traffic, on every level above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from aiops import traffic
from aiops.action import Decision, LimitBandwidth, ReleaseBandwidth, ReserveBandwidth, TuneJob
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Finding, Job, Link, Share, TaskClass
from aiops.snapshot import Need, Snapshot
from policies.rules import rule_of
from policies.wires import links_of, present, share, users

BUSY, CALM, UNKNOWN = "busy", "calm", "unknown"
BETWEEN = "between"  # neither: the hysteresis in which everything stays as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings. 70 %, 50 % and 75 % compression are policy.md 28a, 10 % excess is 27. `guarantees`: bytes/s by owner, link."""

    busy_ratio: float = 0.7
    calm_ratio: float = 0.5
    bulk_ratio: float = 0.25
    excess_ratio: float = 0.1
    confidence: float = 0.6
    max_diagnosis_age_s: float = 120.0  # four diagnoses
    knob: str = "compression"
    usual: float = 0.5
    compressed: float = 0.75
    bulk: tuple[str, ...] = ()
    guarantees: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One link as seen now: how busy, in words, and the time of the newest counter (None: not measured)."""

    link: Link
    state: str
    told: str
    at: float | None = None


class Bandwidth:
    """Guarantees, caps on bulk traffic, compression under congestion."""

    name: ClassVar[str] = "bandwidth"
    every_s: ClassVar[float] = 10.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Bandwidth:
        """From the section `policies.bandwidth`; ConfigError names the key that is unknown, out of range or contradicts."""
        rule = rule_of(Rule, section, where, cls.name)
        if rule.calm_ratio >= rule.busy_ratio:
            raise ConfigError(where, "policies.bandwidth.calm_ratio", f"expected less than busy_ratio ({rule.busy_ratio:g})")
        if rule.usual > rule.compressed:
            raise ConfigError(where, "policies.bandwidth.usual", f"expected at most compressed ({rule.compressed:g})")
        _check_bulk(rule.bulk, where)
        _check_guarantees(rule.guarantees, where)
        return cls(rule)

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """The byte counters of every link's device; a link without them is left alone, so none is required."""
        return [Need(query=query, required=False) for query in traffic.queries(cluster.links)]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """Promises first, then per link what gives way or goes back, then compression per job; all by name."""
        yield from self._promises(snapshot)
        measured = traffic.uses(snapshot)
        looks = {
            link.name: self._look(snapshot, link, measured[link.name])
            for link in sorted(snapshot.cluster.links, key=lambda one: one.name)
            if link.capacity_bytes_per_s > 0  # of one that carries nothing, nothing can be busy
        }
        bulky = tuple(job for job in snapshot.cluster.jobs if self._is_bulk(f"job/{job.id}"))
        bulk = replace(snapshot.cluster, jobs=bulky)  # few of thousands: only they are looked for on each of a thousand links
        for look in looks.values():
            if look.state == UNKNOWN:
                yield f"{look.link.name}: {look.told}"
            yield from self._caps(bulk, look)
        for job in sorted(snapshot.cluster.jobs, key=lambda job: job.id):
            yield from self._compression(snapshot, job, looks)

    # -- what is promised ----------------------------------------------------------------------------------------------

    def _promises(self, snapshot: Snapshot) -> Iterator[Decision | str]:
        links = {link.name: link for link in snapshot.cluster.links}
        for owner, rates in sorted(self.rule.guarantees.items()):
            here = present(snapshot.cluster, owner)
            for name, rate in sorted(rates.items()):
                if name not in links:
                    yield f"{owner}: there is no link {name}: its guarantee cannot be given"
                    continue
                has = share(links[name], owner).guarantee_bytes_per_s
                if here and has != rate:
                    why = f"{owner} runs and is promised {rate:.4g} bytes/s on {name}; it has {has or 0.0:.4g}"
                    yield self._wish(ReserveBandwidth(link=name, owner=owner, bytes_per_s=rate), why, _honest(links[name]))
                if not here and has is not None:
                    why = f"{owner} is gone: its {has:.4g} bytes/s on {name} are free again"
                    yield self._wish(ReleaseBandwidth(link=name, owner=owner), why, ())

    # -- who gives way -------------------------------------------------------------------------------------------------

    def _look(self, snapshot: Snapshot, link: Link, use: traffic.Use | None) -> Look:
        marked = next((f for f in snapshot.findings if self._congested(f, link, snapshot.now)), None)
        if use is None:
            told = f"found congested ({marked.id})" if marked else "its traffic is not measured: nothing is changed"
            return Look(link=link, state=BUSY if marked else UNKNOWN, told=told, at=marked.at if marked else None)
        most, told = link.capacity_bytes_per_s, f"{use.now / link.capacity_bytes_per_s:.0%} busy, P95 {use.p95:.4g} bytes/s"
        if marked or use.now > self.rule.busy_ratio * most:
            return Look(link=link, state=BUSY, told=told + (f", found congested ({marked.id})" if marked else ""), at=use.at)
        return Look(link=link, state=CALM if use.recent_peak < self.rule.calm_ratio * most else BETWEEN, told=told, at=use.at)

    def _congested(self, found: Finding, link: Link, now: float) -> bool:
        names = {f"link:{link.name}", f"nic:{link.node}/{link.device}", f"disk:{link.node}/{link.device}"}
        sure = found.confidence >= self.rule.confidence and now - found.at <= self.rule.max_diagnosis_age_s
        return sure and found.cause is Cause.NET_CONTENTION and found.subject in names

    def _caps(self, bulk: Cluster, look: Look) -> Iterator[Decision | str]:
        """Bulk traffic is capped on a busy link, excess is cut to its guarantee; caps of exactly these rates go back."""
        link, cap = look.link, self.rule.bulk_ratio * look.link.capacity_bytes_per_s
        users_of = [f"job/{job.id}" for job in users(bulk, link)] if bulk.jobs else []
        known = [one.owner for one in link.shares if self._is_bulk(one.owner)]
        for owner in sorted({*users_of, *known}):
            yield from self._cap(look, share(link, owner), cap, "bulk traffic yields")
        for one in link.shares:
            rate, used = one.guarantee_bytes_per_s, one.used_bytes_per_s
            if rate is None or self._is_bulk(one.owner):
                continue
            over = used is not None and used > rate * (1 + self.rule.excess_ratio)
            if over and look.state != BUSY:
                yield f"{link.name}: {one.owner} uses {used:.4g} of {rate:.4g} bytes/s guaranteed; the link has room"
            if over or one.cap_bytes_per_s == rate:
                yield from self._cap(look, one, rate, f"{used or 0.0:.4g} bytes/s used")

    def _cap(self, look: Look, one: Share, rate: float, why: str) -> Iterator[Decision]:
        has, link = one.cap_bytes_per_s, look.link
        if look.state == BUSY and (has is None or has > rate):
            wish = LimitBandwidth(link=link.name, owner=one.owner, bytes_per_s=rate, was=has)
            yield self._wish(
                wish, f"{link.name} is {look.told}: {one.owner} to {rate:.4g} bytes/s, {why}", _honest(link), look.at
            )
        elif look.state == CALM and has == rate:  # a cap of another size is somebody else's
            wish = LimitBandwidth(link=link.name, owner=one.owner, bytes_per_s=None, was=has)
            yield self._wish(wish, f"{link.name} is {look.told}: the cap on {one.owner} is lifted", (), look.at)

    def _is_bulk(self, owner: str) -> bool:
        return any(fnmatchcase(owner, pattern) for pattern in self.rule.bulk)

    # -- who compresses ------------------------------------------------------------------------------------------------

    def _compression(self, snapshot: Snapshot, job: Job, looks: Mapping[str, Look]) -> Iterator[Decision]:
        knob = next((knob for knob in job.knobs if knob.name == self.rule.knob), None)
        if knob is None or not job.compresses or job.task_class is not TaskClass.COMMUNICATION:
            return
        mine = [looks[link.name] for link in links_of(snapshot.cluster, job) if link.name in looks]
        busy = [look for look in mine if look.state == BUSY]
        high, low = (min(max(value, knob.least), knob.most) for value in (self.rule.compressed, self.rule.usual))
        if busy and knob.value < high:
            wish = TuneJob(job=job.id, run_id=job.run_id, knob=knob.name, value=high, was=knob.value)
            yield self._wish(wish, f"{busy[0].link.name} is {busy[0].told}: {job.id} compresses more", (), busy[0].at)
        elif mine and all(look.state == CALM for look in mine) and knob.value == high > low:
            wish = TuneJob(job=job.id, run_id=job.run_id, knob=knob.name, value=low, was=knob.value)
            yield self._wish(wish, f"{mine[0].link.name} is {mine[0].told}: {job.id} compresses as usual", (), mine[0].at)

    def _wish(
        self, action: ReserveBandwidth | ReleaseBandwidth | LimitBandwidth | TuneJob, reason: str, facts: tuple[str, ...],
        at: float | None = None,
    ) -> Decision:  # fmt: skip
        return Decision(
            policy=self.name, action=action, reason=reason, evidence=facts, cause="congestion" if at else "",
            expect="in force at the next look", within_s=60.0, inputs_at=at,
        )  # fmt: skip


def _honest(link: Link) -> tuple[str, ...]:
    if not link.enforced:
        return (f"{link.name}: accounted, not enforced",)
    return (f"{link.name}: accounted, not enforced: {link.accounted}",) if link.accounted else ()


def _check_bulk(patterns: tuple[str, ...], where: str) -> None:
    """Owners are job/NAME and service/NAME: what can match none of them, or matches them all, is a mistake."""
    for one in patterns:
        if not one.startswith(("job/", "service/")) or fnmatchcase(one.partition("/")[0] + "/", one):
            raise ConfigError(where, "policies.bandwidth.bulk", f"expected job/NAME* or service/NAME*, found {one!r}")


def _check_guarantees(raw: Any, where: str) -> None:
    path = "policies.bandwidth.guarantees"
    if not isinstance(raw, Mapping):
        raise ConfigError(where, path, "expected a mapping of owners to links and bytes per second")
    for owner, rates in raw.items():
        if not str(owner).startswith(("job/", "service/")) or not isinstance(rates, Mapping):
            raise ConfigError(where, f"{path}.{owner}", "expected job/NAME or service/NAME with links and bytes per second")
        for link, rate in rates.items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e15:
                raise ConfigError(where, f"{path}.{owner}.{link}", f"expected bytes per second above 0, found {rate!r}")
