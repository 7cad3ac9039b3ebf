"""The live door: `ports.Diagnoser` over the cluster and an hour of stored series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from aiops.diagnose.analysis import Analysis, examine
from aiops.diagnose.continuity import continued
from aiops.diagnose.derive import Rich, enrich
from aiops.diagnose.facts import Facts, recent_facts
from aiops.diagnose.foreseen import Foreseen, against, as_foreseen, by_row
from aiops.diagnose.graph import Graph
from aiops.diagnose.live import needs, places, to_graph, to_panel
from aiops.diagnose.meaning import Role
from aiops.diagnose.report import Hypothesis
from aiops.diagnose.resources import Claim
from aiops.diagnose.scheduler import with_idle, with_queues, with_tenants
from aiops.diagnose.usual import without_faults
from aiops.diagnose.watch import host_claims
from aiops.model import Cause, Cluster, Evidence, Finding, Forecast, Query, Series

MAX_SLIS = 200
"""SLIs examined per refresh, most deviating first: 200 jobs of 100 rows each take about a second."""
SLIS = (Role.STEP, Role.LATENCY, Role.QUEUE_WAIT, Role.IDLE)
"""What is examined: a job's step time (its GPUs' idle share where it tells none), a service's latency, a queue's wait."""
SPEEDS = (Role.STEP, Role.LATENCY)
"""SLIs that are a finding without a cause, too: what waits or idles for no reason that can be named may have nothing to do."""
WATCH_CONFIDENCE = 0.6
"""Of a host's own limits, without an SLI that suffers: likely right about the resource, silent about the harm."""


class CausalDiagnoser:
    """Findings on every job and service whose SLI got worse, and on hosts that are beyond their limits."""

    name: ClassVar[str] = "causal"

    def needs(self) -> tuple[Query, ...]:
        """The series to read before each diagnosis."""
        return needs()

    def diagnose(
        self,
        cluster: Cluster,
        series: Sequence[Series],
        now: float,
        known: Sequence[Finding] = (),
        forecasts: Sequence[Forecast] = (),
    ) -> tuple[Finding, ...]:
        """Findings that hold at `now`, best first; empty when all is well. See `ports.Diagnoser`."""
        panel = to_panel(cluster, [one for one in series if len(one.times)])
        if panel is None or len(panel.until(now).times) < 3:
            return ()
        panel = with_queues(with_tenants(panel, cluster), cluster)
        graph = to_graph(cluster, panel)
        panel = with_idle(panel, graph)
        rich = enrich(panel.until(now), graph)
        usual = without_faults(rich, graph, known, now)
        found = {finding.id: finding for finding in _watch_findings(usual, graph, now)}
        foreseen = by_row(forecasts, places(cluster, series)) if forecasts else {}
        for finding in _sli_findings(usual, graph, now, foreseen):
            found[finding.id] = finding  # the same cause with a victim is the better finding
        lasting = continued(tuple(found.values()), known, rich, now)
        return tuple(sorted(lasting, key=lambda finding: (-finding.confidence, -finding.score, finding.id)))


def _sli_findings(measured: Rich, graph: Graph, now: float, foreseen: Foreseen) -> Iterator[Finding]:
    rich, bands = against(measured, foreseen, SLIS)
    facts = recent_facts(rich, graph, now)
    slis = [row for role in SLIS for row in facts.rows(role) if facts.z(row) > 0]
    for row in sorted(slis, key=lambda row: -facts.z(row))[:MAX_SLIS]:
        entity = facts.entity(row)
        if entity.partition(":")[0] not in ("job", "service", "queue"):
            continue
        if row in bands and as_foreseen(bands[row], measured.panel, row, rich.meanings[row].worse):
            continue
        scope = graph.upstream(entity)
        keep = np.flatnonzero([name in scope for name in rich.panel.entities])
        part = Rich(panel=rich.panel.take(keep), meanings=tuple(rich.meanings[i] for i in keep))
        analysis = examine(part, graph, now, int(np.searchsorted(keep, row)))
        if not (analysis.noticed and analysis.facts.window.clear):
            continue  # every 30 s, on every SLI: only what is beyond doubt
        if analysis.report.verdict is not Cause.UNKNOWN or rich.meanings[row].role in SPEEDS:
            yield _finding(analysis, now)


def _finding(analysis: Analysis, now: float) -> Finding:
    report = analysis.report
    first = report.causes[0]
    victim = analysis.facts.entity(analysis.facts.sli) if analysis.facts.sli is not None else first.entity
    subject = first.entity if report.verdict is not Cause.UNKNOWN else victim
    return Finding(
        id=f"{report.verdict.value}:{subject}",
        at=now,
        cause=report.verdict,
        subject=subject,
        score=first.score,
        confidence=report.confidence,
        since=report.onset,
        sli=report.sli,
        chain=first.chain,
        evidence_for=_with_sli(analysis, first),
        evidence_against=first.evidence_against,
        counterfactual=dict(first.counterfactual),
        neighbour=first.neighbour,
        summary=summary(report.verdict, subject, report.sli, first),
    )


def _with_sli(analysis: Analysis, first: Hypothesis) -> tuple[Evidence, ...]:
    """The evidence, with the SLI's own reading in it: it tells later whether the fault is over."""
    facts = analysis.facts
    if facts.sli is None or any(fact.series == facts.series(facts.sli) for fact in first.evidence_for):
        return first.evidence_for
    return (facts.evidence(facts.sli), *first.evidence_for)


def summary(verdict: Cause, subject: str, sli: str | None, first: Hypothesis) -> str:
    """One sentence for people: what, where, what it costs."""
    told = f"{verdict.value.replace('_', ' ')} at {subject}"
    if sli:
        told += f", seen in {sli}"
    if "step_s" in first.counterfactual:
        told += (
            f": a step takes {first.counterfactual['step_now_s']:.3g} s and would take {first.counterfactual['step_s']:.3g} s"
        )
    return told


def _watch_findings(rich: Rich, graph: Graph, now: float) -> Iterator[Finding]:
    facts = recent_facts(rich, graph, now)
    for claim in host_claims(facts):
        yield _watched(facts, claim, now)


def _watched(facts: Facts, claim: Claim, now: float) -> Finding:
    since = facts.since(claim.row) if claim.row >= 0 else np.inf
    return Finding(
        id=f"{claim.cause.value}:{claim.subject}",
        at=now,
        cause=claim.cause,
        subject=claim.subject,
        score=float(facts.shifts.score[claim.row]) if claim.row >= 0 else 0.0,
        confidence=WATCH_CONFIDENCE,
        since=float(since) if np.isfinite(since) else None,
        chain=(claim.subject,),
        evidence_for=claim.evidence_for,
        evidence_against=claim.evidence_against,
        neighbour=claim.neighbour,
        summary=f"{claim.cause.value.replace('_', ' ')} at {claim.subject}: {claim.evidence_for[0].text}",
    )
