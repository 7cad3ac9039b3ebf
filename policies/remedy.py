"""Treat the cause of slow training instead of adding GPUs that would wait for the same thing.

As one would tell an operator: *"When I am sure why a job is slow (storage, network, a neighbour, its own loader), I try one
thing at a time, first what costs the job nothing: cap the neighbour, guarantee bandwidth, turn a declared knob within its
bounds, and only then move the job, if that gains more than it loses. Five minutes later I look at the step time. What did not
help I put back and do not try again for an hour; what helped I put back when the trouble has been gone for a while, except
knobs, which stay. I never add GPUs."*

With `learn: true` the order of the knobs is learnt from what turning them did (`bandit.py`); everything else stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from aiops.action import Action, Decision, Entry, EntryState, LimitBandwidth, Migrate, RequestCheckpoint, TuneJob
from aiops.errors import ConfigError
from aiops.model import Cluster
from aiops.snapshot import Need, Snapshot
from policies import bandit, effect, remedies
from policies.rules import rule_of
from policies.trouble import STALLS, Trouble, sufferer, troubles

BACK = "put back: "
OPEN = (EntryState.INTENT, EntryState.SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(remedies.Amounts):
    """Settings, those of the arms included. 5 min is 30 scrapes; what is tried again at once would swing."""

    confidence: float = 0.6
    settle_s: float = 300.0
    least_gain_ratio: float = 0.02
    retry_s: float = 3600.0
    calm_s: float = 600.0
    max_diagnosis_age_s: float = 120.0  # four diagnoses
    longest_s: float = 43_200.0  # the record that says what is ours reaches back one day
    window_s: float = 21_600.0
    learn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One earlier try of this policy: what, against what, when, and whether it is still open."""

    action: Action
    against: str
    job: str
    at: float
    open: bool


class Remedy:
    """Cause by cause, one reversible step at a time, judged by the step time."""

    name: ClassVar[str] = "remedy"
    every_s: ClassVar[float] = 30.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Remedy:
        """From the section `policies.remedy`; ConfigError names the key that is unknown, out of range or contradicts."""
        rule = rule_of(Rule, section, where, cls.name)
        if rule.retry_s < rule.settle_s:
            raise ConfigError(where, "policies.remedy.retry_s", f"expected at least settle_s ({rule.settle_s:g} s)")
        if rule.window_s < rule.settle_s + effect.BEFORE_S:
            least = f"{rule.settle_s + effect.BEFORE_S:g} s: settle_s and the ten minutes before a step"
            raise ConfigError(where, "policies.remedy.window_s", f"expected at least {least}")
        if rule.longest_s > 43_200.0:
            raise ConfigError(where, "policies.remedy.longest_s", "expected at most 12h: the record reaches back one day")
        if rule.learn and not bandit.available():
            raise ConfigError(where, "policies.remedy.learn", "expected the extra `learning` (pip install 'aiops[learning]')")
        return cls(rule)

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """The step times of running jobs: what every remedy is judged by."""
        return [Need(query=query, required=False) for query in effect.queries(cluster, self.rule.window_s)]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """First what is to be put back, then one try per trouble, surest first."""
        tried, looked = self._tried(snapshot), self._looked(snapshot)
        now = troubles(snapshot.cluster, snapshot.findings, self.rule.confidence) if looked else ()
        in_force = (one for one in tried if remedies.undone(one.action, snapshot.cluster) is not None)
        for one in {_lever(one.action): one for one in in_force}.values():
            yield from self._put_back(snapshot, one, frozenset(trouble.name for trouble in now) if looked else None)
        if not looked:
            yield "no fresh diagnosis: nothing is tried, and no trouble counts as gone"
        busy = {one.job for one in tried if one.open or self._settling(snapshot, one)}
        for trouble in now:
            if trouble.job.id in busy:
                yield f"{trouble.name}: an earlier step has not shown its effect yet"
            else:
                answer = self._try(snapshot, trouble, tried)
                busy |= {trouble.job.id} | _slowed(answer)
                yield answer

    def _looked(self, snapshot: Snapshot) -> bool:
        at = snapshot.diagnosed_at
        return at is not None and 0 <= snapshot.now - at <= self.rule.max_diagnosis_age_s

    # -- what was tried ------------------------------------------------------------------------------------------------

    def _tried(self, snapshot: Snapshot) -> tuple[Tried, ...]:
        """Own confirmed or open tries, oldest first; what was put back later is told apart by what is in force."""
        mine = [e for e in snapshot.history if e.admission.decision.policy == self.name]
        kept = [e for e in mine if e.state in (EntryState.CONFIRMED, *OPEN) and sufferer(e.admission.decision.cause)]
        return tuple(self._as_tried(e) for e in sorted(kept, key=lambda e: (e.admission.at, e.admission.id)))

    def _as_tried(self, entry: Entry) -> Tried:
        decision, at = entry.admission.decision, entry.admission.at
        name = sufferer(decision.cause)
        return Tried(action=decision.action, against=decision.cause, job=name, at=at, open=entry.state in OPEN)

    def _settling(self, snapshot: Snapshot, one: Tried) -> bool:
        if isinstance(one.action, RequestCheckpoint) or snapshot.now - one.at >= self.rule.settle_s:
            return False  # a checkpoint alone changes no step time
        return isinstance(one.action, Migrate) or remedies.undone(one.action, snapshot.cluster) is not None

    def _put_back(self, snapshot: Snapshot, one: Tried, present: frozenset[str] | None) -> Iterator[Decision]:
        """What did not help, what is no longer needed, and what has stood for the longest time; `present` None: not known."""
        back = remedies.undone(one.action, snapshot.cluster)
        if back is None or one.open or snapshot.now - one.at < self.rule.settle_s:
            return
        found = effect.gain(snapshot, one.job, one.at, self.rule.settle_s)
        shown = f"step {found.before_s:.3g} -> {found.after_s:.3g} s" if found else "step time not measured"
        knob, age = isinstance(one.action, TuneJob), snapshot.now - one.at
        if found is not None and found.ratio < self.rule.least_gain_ratio and age < self.rule.retry_s:
            why = f"it did not help ({shown})"
        elif not knob and present is not None and one.against not in present and age >= self.rule.calm_s:
            why = f"{one.against} is gone"
        elif not knob and age >= self.rule.longest_s:
            why = f"it has stood for {age / 3600:.0f} h"
        else:
            return
        yield Decision(
            policy=self.name, action=back, reason=f"{BACK}{one.action.kind} against {one.against}: {why}", evidence=(shown,),
            expect="as it was", within_s=120.0, cause=f"{BACK}{one.against}", inputs_at=snapshot.cluster.at,
        )  # fmt: skip

    # -- what to try ---------------------------------------------------------------------------------------------------

    def _try(self, snapshot: Snapshot, trouble: Trouble, tried: Sequence[Tried]) -> Decision | str:
        """The first arm that can be pulled and was not pulled against this lately."""
        why_not: list[str] = [f"add GPUs: they would wait for the same {trouble.cause.value}"]
        for arm in self._arms(snapshot, trouble, tried):
            wish = remedies.action(arm, trouble, snapshot, self.rule)
            if not isinstance(wish, str) and not self._lately(snapshot, trouble, wish, tried):
                return self._wish(snapshot, trouble, wish, tuple(why_not))
            why_not.append(f"{arm}: {wish if isinstance(wish, str) else 'tried lately'}")
        return f"{trouble.name}: nothing left to try; {'; '.join(why_not[1:])}"

    def _arms(self, snapshot: Snapshot, trouble: Trouble, tried: Sequence[Tried]) -> tuple[str, ...]:
        arms = remedies.ORDER[trouble.cause]
        if not self.rule.learn:
            return arms
        knobs = [arm for arm in remedies.KNOBS if isinstance(self._pull(arm, trouble, snapshot), TuneJob)]
        first = next((wish for arm in knobs if isinstance(wish := self._pull(arm, trouble, snapshot), TuneJob)), None)
        best = bandit.ordered(knobs, self._tries(snapshot, tried), trouble.cause, first.was if first else 0.0)
        return (*(arm for arm in arms if arm not in remedies.KNOBS and arm != "move"), *best, *(a for a in arms if a == "move"))

    def _pull(self, arm: str, trouble: Trouble, snapshot: Snapshot) -> Action | str:
        return remedies.action(arm, trouble, snapshot, self.rule)

    def _tries(self, snapshot: Snapshot, tried: Sequence[Tried]) -> list[bandit.Try]:
        """Every knob that was turned and whose effect is in the snapshot."""
        out = []
        for one in tried:
            found = effect.gain(snapshot, one.job, one.at, self.rule.settle_s)
            if isinstance(one.action, TuneJob) and found is not None:
                cause = next(cause for cause in STALLS if one.against.startswith(f"{cause.value} of "))
                out.append(bandit.Try(arm=self._arm_of(one.action), cause=cause, value=one.action.was, gained=found.ratio))
        return out

    def _arm_of(self, action: TuneJob) -> str:
        up, down = ("loader_up", "loader_down") if action.knob == self.rule.loader_knob else ("compress", "uncompress")
        return up if action.value > action.was else down

    def _lately(self, snapshot: Snapshot, trouble: Trouble, wish: Action, tried: Sequence[Tried]) -> bool:
        if isinstance(wish, RequestCheckpoint):
            asked = trouble.job.checkpoint_requested_at
            return asked is not None and snapshot.now - asked < self.rule.settle_s
        same = [one for one in tried if one.against == trouble.name and _alike(one.action, wish)]
        return any(snapshot.now - one.at < self.rule.retry_s for one in same)

    def _wish(self, snapshot: Snapshot, trouble: Trouble, wish: Action, rejected: tuple[str, ...]) -> Decision:
        finding = trouble.finding
        gained, spent = remedies.worth(trouble, snapshot.cluster.at, self.rule)
        facts = [f"confidence {finding.confidence:.2f}: {finding.summary or finding.id}"]
        facts += [fact.text for fact in finding.evidence_for[:3]]
        if wish.kind == "migrate":
            facts.append(f"gains {gained:.0f} GPU-s, loses {spent:.0f}")
        better = finding.counterfactual.get("step_s")
        expect = f"a step of {better:.3g} s" if better else f"steps shorter by {self.rule.least_gain_ratio:.0%} or more"
        return Decision(
            policy=self.name, action=wish, reason=f"{trouble.name}: {wish.kind}", evidence=tuple(facts), expect=expect,
            within_s=600.0 if wish.kind == "migrate" else 120.0, cause=trouble.name, rejected=rejected, inputs_at=finding.at,
        )  # fmt: skip


def _alike(one: Action, other: Action) -> bool:
    """The same lever in the same direction, whatever the amount."""
    if isinstance(one, TuneJob) and isinstance(other, TuneJob):
        return one.knob == other.knob and (one.value > one.was) == (other.value > other.was)
    return _lever(one) == _lever(other)


def _lever(action: Action) -> tuple[str, ...]:
    """What an action pulls at, whatever the amount."""
    place = [field.name for field in fields(action) if field.name in ("link", "owner", "job", "knob")]
    return (action.kind, *(str(getattr(action, name)) for name in place))


def _slowed(answer: Decision | str) -> frozenset[str]:
    """The job that a decision caps: what it suffers from then is no trouble of its own."""
    action = None if isinstance(answer, str) else answer.action
    return frozenset({action.owner.removeprefix("job/")} if isinstance(action, LimitBandwidth) else ())
