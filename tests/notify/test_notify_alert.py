"""Alerts from findings and decisions, and Alertmanager's identity of them."""

from dataclasses import replace

import pytest

from aiops.action import Admission, Decision, Deny, Entry, EntryState, Order, OrderKind, ScaleService
from aiops.model import Cause, Evidence, Finding
from aiops.notify.alert import HOLDS_S, Alert, fingerprint, from_decisions, from_findings, silenced

FINDING = Finding(
    id="f1",
    at=100.0,
    cause=Cause.IO_STALL,
    subject="volume/scratch",
    score=2.0,
    confidence=0.8,
    since=40.0,
    evidence_for=(Evidence(text="read latency 40 ms, usually 2 ms"),),
)
SCALE = ScaleService(service="web", uid="u", version="1", replicas=3, was=2)
ADMISSION = Admission(id="a1", at=100.0, decision=Decision(policy="prescale", action=SCALE, reason="load rises"))
ENTRY = Entry(admission=ADMISSION, state=EntryState.SENT, epoch=1, expires_at=400.0, changed_at=101.0)


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        ((), 14695981039346656037),
        ((("name", "garland, briggs"), ("fear", "love is not enough")), 5799056148416392346),
    ],
)
def test_the_fingerprint_is_prometheus_own(labels: tuple[tuple[str, str], ...], value: int) -> None:
    # values of Prometheus common/model, signature_test.go
    assert fingerprint(labels) == f"{value:016x}"


def test_a_finding_becomes_an_alert_with_its_evidence() -> None:
    (alert,) = from_findings([FINDING], min_confidence=0.5)
    labels, annotations = dict(alert.labels), dict(alert.annotations)
    assert labels == {"alertname": "IoStall", "cause": "io_stall", "severity": "warning", "subject": "volume/scratch"}
    assert annotations["evidence"] == "read latency 40 ms, usually 2 ms"
    assert alert.starts_at == 40.0


def test_an_unsure_finding_and_a_weaker_twin_stay_silent() -> None:
    assert from_findings([replace(FINDING, confidence=0.4)], min_confidence=0.5) == ()
    twins = from_findings([FINDING, replace(FINDING, id="f2", confidence=0.6)], min_confidence=0.5)
    assert [dict(one.annotations)["finding"] for one in twins] == ["f1"]


@pytest.mark.parametrize(
    ("cause", "horizon_s", "severity", "why"),
    [
        (Cause.GPU_FAULT, None, "critical", "work is lost now"),
        (Cause.EXHAUSTION, 900.0, "warning", "foreseen, not there yet"),
        (Cause.LOAD_CHANGE, None, "info", "nothing is broken"),
        (Cause.UNKNOWN, None, "info", "no claim is made"),
    ],
)
def test_severity_follows_from_the_cause(cause: Cause, horizon_s: float | None, severity: str, why: str) -> None:
    (alert,) = from_findings([replace(FINDING, cause=cause, horizon_s=horizon_s)], 0.0)
    assert dict(alert.labels)["severity"] == severity, why


@pytest.mark.parametrize(
    ("denied", "names", "why"),
    [
        (Deny.ADVISE_ONLY, ["ActionAdvised"], "that is what advise mode is for"),
        (Deny.BREAKER_OPEN, ["ActionRefused"], "the autopilot stands still: a person must look"),
        (Deny.COOLDOWN, [], "everyday bookkeeping"),
        (Deny.OBSERVE_ONLY, [], "observing is silent"),
        (None, [], "a permission is told of as a ledger entry"),
    ],
)
def test_which_refusals_are_told(denied: Deny | None, names: list[str], why: str) -> None:
    alerts = from_decisions([replace(ADMISSION, denied=denied)], [], 100.0)
    assert [dict(one.labels)["alertname"] for one in alerts] == names, why


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (EntryState.SENT, ["ActionTaken"]),
        (EntryState.CONFIRMED, ["ActionTaken"]),
        (EntryState.FAILED, ["ActionFailed"]),
        (EntryState.NEEDS_HUMAN, ["ActionNeedsHuman"]),
    ],
)
def test_what_became_of_an_action_is_told(state: EntryState, names: list[str]) -> None:
    alerts = from_decisions([], [replace(ENTRY, state=state)], 100.0)
    assert [dict(one.labels)["alertname"] for one in alerts] == names


@pytest.mark.parametrize(
    ("state", "age_s", "told"),
    [
        (EntryState.SENT, 10 * HOLDS_S, True),
        (EntryState.CONFIRMED, HOLDS_S - 1.0, True),
        (EntryState.CONFIRMED, HOLDS_S, False),
    ],
    ids=["under way", "done within a cycle, and still told to a receiver that waits for the group", "done long ago"],
)
def test_an_action_is_told_of_long_enough_to_be_heard(state: EntryState, age_s: float, told: bool) -> None:
    entry = replace(ENTRY, state=state)
    assert bool(from_decisions([], [entry], entry.admission.at + age_s)) is told


@pytest.mark.parametrize(
    ("target", "hidden", "why"),
    [
        ("alertname=IoStall", True, "one matcher"),
        ('alertname="IoStall", subject=volume/scratch', True, "quotes and blanks as in amtool"),
        ("alertname=IoStall,subject=volume/other", False, "all must hold"),
        ("", False, "empty means nothing"),
        ("IoStall", False, "unparsable means nothing"),
        ("alertname=IoStall,", True, "a trailing comma is harmless"),
    ],
)
def test_a_silence_hides_what_its_matchers_say(target: str, hidden: bool, why: str) -> None:
    (alert,) = from_findings([FINDING], 0.0)
    silence = Order(id="s", at=0.0, by="ann", kind=OrderKind.SILENCE, target=target)
    assert silenced(alert, [silence]) is hidden, why
    assert isinstance(alert, Alert)
