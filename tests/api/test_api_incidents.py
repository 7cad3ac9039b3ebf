"""Incidents: findings that share a cause become one, and what was done about it is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from api_house import NOW, Client, FakeStore, House, seeded

from aiops.action import (
    Admission,
    Cordon,
    Decision,
    Deny,
    Effect,
    Entry,
    EntryState,
    LimitBandwidth,
    Order,
    OrderKind,
    Verdict,
)
from aiops.api.incidents import QUIET_S, Record, concerns, incidents
from aiops.model import Cause, Evidence, Finding


def finding(id: str, at: float, **changes: Any) -> Finding:
    known: dict[str, Any] = {"cause": Cause.IO_STALL, "subject": "job/1", "score": 1.0, "confidence": 0.8} | changes
    return Finding(id=id, at=at, **known)


def test_two_jobs_stalled_by_one_volume_are_one_incident() -> None:
    rows = [
        finding("a", NOW, chain=("job/1", "volume/x")),
        finding("b", NOW + 30, subject="job/2", chain=("job/2", "volume/x")),
    ]
    (found,) = incidents(rows, rows, Record())
    assert (found.root, found.subjects, found.open) == ("volume/x", ("job/1", "job/2"), True)
    assert (found.opened_at, found.updated_at) == (NOW, NOW + 30)


def test_another_cause_or_another_root_is_another_incident() -> None:
    rows = [finding("a", NOW), finding("b", NOW, cause=Cause.STRAGGLER), finding("c", NOW, subject="job/2")]
    assert len(incidents(rows, rows, Record())) == 3


def test_a_cause_that_returns_after_a_quiet_while_is_a_new_incident() -> None:
    rows = [finding("a", NOW - QUIET_S - 1), finding("b", NOW)]
    assert [one.open for one in incidents(rows, rows[1:], Record())] == [True, False]
    assert len(incidents([finding("a", NOW - QUIET_S + 1), finding("b", NOW)], (), Record())) == 1


def test_the_best_hypothesis_leads_and_the_others_are_kept() -> None:
    rows = [finding("weak", NOW, score=0.1, summary="weak"), finding("strong", NOW - 5, score=9.0, summary="strong")]
    (found,) = incidents(rows, rows, Record())
    assert [one.id for one in found.hypotheses] == ["strong", "weak"]
    assert found.summary == "strong"


def test_what_was_done_is_named_by_cause_or_by_target() -> None:
    def admission(id: str, at: float, node: str, cause: str = "") -> Admission:
        action = Cordon(node=node, uid="u", reason="r")
        return Admission(id=id, at=at, decision=Decision(policy="remedy", action=action, reason="r", cause=cause))

    rows = [finding("a", NOW, cause=Cause.GPU_FAULT, subject="node/n1")]
    done = (
        admission("by-cause", NOW + 1, "n9", "a"),
        admission("by-target", NOW + 2, "n1"),
        admission("before", NOW - 9, "n1"),
    )
    (found,) = incidents(rows, rows, Record(admissions=done))
    assert found.actions == ("by-cause", "by-target")
    assert [moment.at for moment in found.timeline] == sorted(moment.at for moment in found.timeline)


def test_more_load_is_nobodys_incident() -> None:
    assert incidents([finding("a", NOW, cause=Cause.LOAD_CHANGE)], (), Record()) == ()


def test_the_id_stays_while_an_incident_goes_on() -> None:
    first = finding("a", NOW, since=NOW - 60)
    (before,) = incidents([first], [first], Record())
    later = [replace(first, at=NOW + 30), finding("b", NOW + 30)]
    (after,) = incidents(later, later, Record())
    assert before.id == after.id


def test_the_route_lists_open_ones_first_and_serves_one() -> None:
    client = Client(House(store=seeded()))
    items = client.get("/api/v1/incidents").json()["items"]
    assert [item["open"] for item in items] == sorted((item["open"] for item in items), reverse=True)
    only = client.get("/api/v1/incidents?open=false").json()["items"]
    assert only and not any(item["open"] for item in only)
    assert client.get(f"/api/v1/incidents/{items[0]['id']}").json()["id"] == items[0]["id"]
    assert client.get("/api/v1/incidents/nope").status_code == 404


@pytest.mark.parametrize(
    ("name", "changed", "same", "why"),
    [
        ("host:n1", "node/n1", True, "a host is a node"),
        ("node/n1", "node/n1", True, "equal names"),
        ("job:7", "job/7", True, "the engine's names and the actions' differ in a sign only"),
        ("gpu:GPU-1", "gpu/n1/GPU-1", True, "an action knows the node as well"),
        ("disk:n1/sda", "link/sda/job-7", True, "bandwidth of a device is limited on its link"),
        ("tenant:7", "job/7", True, "a neighbour is a job"),
        ("job:7", "job/71", False, "a name is whole"),
        ("host:n1", "job/n1", False, "another kind of thing"),
        ("host:n1", "node/n2", False, "another node"),
    ],
)
def test_an_actions_target_is_known_by_the_entity_that_a_finding_names(name: str, changed: str, same: bool, why: str) -> None:
    assert concerns(name, changed) is same, why


def stalled(at: float = NOW - 30) -> Finding:
    """What the engine makes of a neighbour on a shared disk."""
    waits = Evidence(text="data wait of rank:7/0: 0.6", series="rank:7/0:job_data_wait_seconds_total", value=0.6, baseline=0.02)
    known: dict[str, Any] = {"score": 5.0, "confidence": 0.9, "sli": "job:7:job_step_duration_seconds"}
    return Finding(
        id="noisy_neighbour:job:9@1", at=at, cause=Cause.NOISY_NEIGHBOUR, subject="job:9", neighbour="job:9", since=at - 60,
        chain=("job:7", "rank:7/0", "disk:h/sda", "job:9"), evidence_for=(waits,), summary="job 9 floods the disk", **known,
    )  # fmt: skip


def decided(id: str, at: float, cause: str, denied: Deny | None = None) -> Admission:
    action = LimitBandwidth(link="sda", owner="9", bytes_per_s=1e8, was=None)
    return Admission(id=id, at=at, decision=Decision(policy="bandwidth", action=action, reason="r", cause=cause), denied=denied)


def house(*found: Finding, current: tuple[Finding, ...] = ()) -> Client:
    store = FakeStore(found=list(found))
    store.findings = lambda: current  # type: ignore[method-assign]
    done, refused = decided("a-1", NOW - 20, found[0].id), decided("a-2", NOW - 10, found[0].id, Deny.COOLDOWN)
    store.admitted += [(done, "c"), (refused, "c")]
    seen = Verdict(id="a-1", at=NOW - 5, effect=Effect.PRESENT, detail="the step is as it was")
    store.ledger.append(
        Entry(admission=done, state=EntryState.CONFIRMED, epoch=1, expires_at=NOW, changed_at=NOW - 5, verdict=seen)
    )
    store.given.append(Order(id="o-1", at=NOW - 8, by="ann", kind=OrderKind.SILENCE, target=found[0].id))
    return Client(House(store=store))


def test_an_incident_is_served_with_its_neighbour_its_evidence_its_remedies_and_what_was_done() -> None:
    (item,) = house(stalled(), current=(stalled(),)).get("/api/v1/incidents").json()["items"]
    assert (item["open"], item["resolved_at"], item["neighbour"], item["root"]) == (True, None, "job:9", "job:9")
    assert [fact["series"] for fact in item["evidence"]] == ["rank:7/0:job_data_wait_seconds_total"]
    assert [one["action"] for one in item["remedies"]] == ["reserve_bandwidth", "limit_bandwidth", "migrate"]
    assert [(one["id"], one["state"], one["detail"]) for one in item["done"]] == [
        ("a-1", "confirmed", "the step is as it was"),
        ("a-2", "cooldown", ""),
    ]
    assert [(moment["kind"], moment["ref"]) for moment in item["timeline"]] == [
        ("opened", "noisy_neighbour:job:9@1"), ("acted", "a-1"), ("refused", "a-2"), ("ordered", "o-1"),
    ]  # fmt: skip


def test_an_incident_that_is_no_longer_found_is_resolved_at_its_last_sight() -> None:
    (item,) = house(stalled()).get("/api/v1/incidents").json()["items"]
    assert (item["open"], item["resolved_at"]) == (False, NOW - 30)
    assert "resolved" in [moment["kind"] for moment in item["timeline"]]


def test_an_incident_is_updated_when_another_victim_joins_it() -> None:
    other = replace(stalled(NOW), id="second", chain=("job:8", "disk:h/sda", "job:9"), since=NOW - 20)
    (item,) = house(stalled(), other, current=(stalled(), other)).get("/api/v1/incidents").json()["items"]
    assert [m["kind"] for m in item["timeline"] if m["kind"] in ("opened", "updated")] == ["opened", "updated"]
    assert (item["opened_at"], item["updated_at"]) == (NOW - 90, NOW)
