"""An alert as Alertmanager knows it, and how findings, decisions and actions become alerts. Pure.

Findings and ledger entries are levels: an alert holds while they are there; that of an action for `HOLDS_S` at least, for most
are confirmed by the next cycle, sooner than any receiver waits for a group. Refusals and advice are events, seen only in the
cycles in which their policy was due: an alert made from one holds `HOLDS_S` after it was last seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiops.action import Admission, Deny, Entry, EntryState, Order, target
from aiops.model import Cause, Finding, Labels

HOLDS_S = 300.0  # Alertmanager's default resolve_timeout
_OFFSET, _PRIME, _SEPARATOR = 0xCBF29CE484222325, 0x100000001B3, b"\xff"  # FNV-1a, 64 bit; Prometheus model.SeparatorByte
_GRAVE = frozenset({Cause.GPU_FAULT, Cause.SERVICE_FAULT, Cause.EXHAUSTION})
_MILD = frozenset({Cause.LOAD_CHANGE, Cause.ANOMALY, Cause.UNKNOWN})
_TOLD = {  # refusals that a person should know of; the others are everyday bookkeeping and stay in the ledger
    Deny.ADVISE_ONLY: "info",
    Deny.NEEDS_APPROVAL: "warning",
    Deny.NO_CAPACITY: "warning",
    Deny.BLAST_RADIUS: "warning",
    Deny.BREAKER_OPEN: "critical",
    Deny.MASS_FAULT: "critical",
}
_ENTRY_ALERTS = {
    EntryState.INTENT: ("ActionTaken", "info"),
    EntryState.SENT: ("ActionTaken", "info"),
    EntryState.CONFIRMED: ("ActionTaken", "info"),
    EntryState.FAILED: ("ActionFailed", "warning"),
    EntryState.EXPIRED: ("ActionFailed", "warning"),
    EntryState.ROLLED_BACK: ("ActionRolledBack", "warning"),
    EntryState.NEEDS_HUMAN: ("ActionNeedsHuman", "critical"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; its labels are its identity. `ends_at` None means firing. It outlives `seen_at` by `holds_s`."""

    labels: Labels
    annotations: Labels
    starts_at: float
    seen_at: float
    holds_s: float = 0.0
    ends_at: float | None = None

    @property
    def fingerprint(self) -> str:
        """The 16 hexadecimal digits by which Alertmanager and Prometheus know these labels."""
        return fingerprint(self.labels)


def fingerprint(labels: Labels) -> str:
    """FNV-1a over sorted names and values, each ended by 0xff (Prometheus common/model, labelSetToFingerprint)."""
    value = _OFFSET
    for text in (text for pair in sorted(labels) for text in pair):
        for byte in text.encode("utf-8", "replace") + _SEPARATOR:
            value = ((value ^ byte) * _PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def from_findings(findings: Iterable[Finding], min_confidence: float) -> tuple[Alert, ...]:
    """One alert per finding that is sure enough; of findings with equal labels the first, which is the best."""
    sure = (one for one in findings if one.confidence >= min_confidence)
    return _distinct(_from_finding(one) for one in sure)


def from_decisions(admissions: Iterable[Admission], entries: Iterable[Entry], now: float) -> tuple[Alert, ...]:
    """What was done, what went wrong with it, and the refusals that a person should know of."""
    acts = (_from_entry(one, now) for one in entries if one.state in _ENTRY_ALERTS and not _told_long_enough(one, now))
    refusals = (_from_refusal(one, one.denied, _TOLD[one.denied]) for one in admissions if one.denied in _TOLD and one.denied)
    return _distinct([*acts, *refusals])


def _told_long_enough(entry: Entry, now: float) -> bool:
    return entry.state is EntryState.CONFIRMED and now - entry.admission.at >= HOLDS_S


def silenced(alert: Alert, silences: Sequence[Order]) -> bool:
    """True where a silence's target, `name=value` pairs with commas between, all hold; an empty or broken one hides nothing."""
    labels = dict(alert.labels)
    return any(pairs and all(labels.get(name) == value for name, value in pairs) for pairs in map(_pairs, silences))


def _pairs(silence: Order) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in silence.target.split(",") if part.strip()]
    whole = all(name.strip() and equals for name, equals, _ in parts)
    return [(name.strip(), value.strip().strip('"')) for name, _, value in parts] if whole else []


def _from_finding(finding: Finding) -> Alert:
    severity = "critical" if finding.cause in _GRAVE else "info" if finding.cause in _MILD else "warning"
    if finding.horizon_s is not None:
        severity = "warning"  # foreseen, not there yet
    labels = {
        "alertname": _camel(finding.cause),
        "cause": finding.cause.value,
        "severity": severity,
        "subject": finding.subject,
    }
    if finding.sli:
        labels["sli"] = finding.sli
    annotations = {
        "summary": finding.summary or f"{finding.cause.value.replace('_', ' ')} on {finding.subject}",
        "evidence": "; ".join(one.text for one in finding.evidence_for),
        "evidence_against": "; ".join(one.text for one in finding.evidence_against),
        "chain": " -> ".join(finding.chain),
        "confidence": f"{finding.confidence:.2f}",
        "neighbour": finding.neighbour or "",
        "horizon": f"{finding.horizon_s:.0f} s" if finding.horizon_s is not None else "",
        "finding": finding.id,
    }
    started = finding.at if finding.since is None else finding.since
    return Alert(labels=_pairs_of(labels), annotations=_pairs_of(annotations), starts_at=started, seen_at=finding.at)


def _from_entry(entry: Entry, now: float) -> Alert:
    name, severity = _ENTRY_ALERTS[entry.state]
    result = entry.verdict or entry.receipt
    detail = result.detail if result else ""
    annotations = _told_of(entry.admission) | {"detail": detail, "state": entry.state.value}
    labels = _labels_of(entry.admission, name, severity)
    return Alert(labels=labels, annotations=_pairs_of(annotations), starts_at=entry.admission.at, seen_at=now)


def _from_refusal(admission: Admission, denied: Deny, severity: str) -> Alert:
    name = "ActionAdvised" if denied is Deny.ADVISE_ONLY else "ActionRefused"
    labels = dict(_labels_of(admission, name, severity)) | {"reason": denied.value}
    annotations = _told_of(admission) | {"detail": admission.detail}
    return Alert(
        labels=_pairs_of(labels),
        annotations=_pairs_of(annotations),
        starts_at=admission.at,
        seen_at=admission.at,
        holds_s=HOLDS_S,
    )


def _labels_of(admission: Admission, name: str, severity: str) -> Labels:
    decision = admission.decision
    labels = {"alertname": name, "action": decision.action.kind, "policy": decision.policy, "severity": severity}
    return _pairs_of(labels | {"subject": target(decision.action), "cause": decision.cause})


def _told_of(admission: Admission) -> dict[str, str]:
    decision = admission.decision
    summary = f"{decision.action.kind.replace('_', ' ')} {target(decision.action)}: {decision.reason}"
    return {"summary": summary, "evidence": "; ".join(decision.evidence), "expect": decision.expect, "decision": admission.id}


def _pairs_of(pairs: dict[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in pairs.items() if value))  # an empty label is no label


def _camel(cause: Cause) -> str:
    return "".join(word.capitalize() for word in cause.value.split("_"))


def _distinct(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    first: dict[Labels, Alert] = {}
    for one in alerts:
        first.setdefault(one.labels, one)
    return tuple(first.values())
