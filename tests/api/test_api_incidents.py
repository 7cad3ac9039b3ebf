"""Incidents: findings that share a cause become one, and what was done about it is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api_house import NOW, Client, House, seeded

from aiops.action import Admission, Cordon, Decision
from aiops.api.incidents import QUIET_S, incidents
from aiops.model import Cause, Finding


def finding(id: str, at: float, **changes: Any) -> Finding:
    known: dict[str, Any] = {"cause": Cause.IO_STALL, "subject": "job/1", "score": 1.0, "confidence": 0.8} | changes
    return Finding(id=id, at=at, **known)


def test_two_jobs_stalled_by_one_volume_are_one_incident() -> None:
    rows = [
        finding("a", NOW, chain=("job/1", "volume/x")),
        finding("b", NOW + 30, subject="job/2", chain=("job/2", "volume/x")),
    ]
    (found,) = incidents(rows, rows, ())
    assert (found.root, found.subjects, found.open) == ("volume/x", ("job/1", "job/2"), True)
    assert (found.opened_at, found.updated_at) == (NOW, NOW + 30)


def test_another_cause_or_another_root_is_another_incident() -> None:
    rows = [finding("a", NOW), finding("b", NOW, cause=Cause.STRAGGLER), finding("c", NOW, subject="job/2")]
    assert len(incidents(rows, rows, ())) == 3


def test_a_cause_that_returns_after_a_quiet_while_is_a_new_incident() -> None:
    rows = [finding("a", NOW - QUIET_S - 1), finding("b", NOW)]
    assert [one.open for one in incidents(rows, rows[1:], ())] == [True, False]
    assert len(incidents([finding("a", NOW - QUIET_S + 1), finding("b", NOW)], (), ())) == 1


def test_the_best_hypothesis_leads_and_the_others_are_kept() -> None:
    rows = [finding("weak", NOW, score=0.1, summary="weak"), finding("strong", NOW - 5, score=9.0, summary="strong")]
    (found,) = incidents(rows, rows, ())
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
    (found,) = incidents(rows, rows, done)
    assert found.actions == ("by-cause", "by-target")
    assert [moment.at for moment in found.timeline] == sorted(moment.at for moment in found.timeline)


def test_more_load_is_nobodys_incident() -> None:
    assert incidents([finding("a", NOW, cause=Cause.LOAD_CHANGE)], (), ()) == ()


def test_the_id_stays_while_an_incident_goes_on() -> None:
    first = finding("a", NOW, since=NOW - 60)
    (before,) = incidents([first], [first], ())
    later = [replace(first, at=NOW + 30), finding("b", NOW + 30)]
    (after,) = incidents(later, later, ())
    assert before.id == after.id


def test_the_route_lists_open_ones_first_and_serves_one() -> None:
    client = Client(House(store=seeded()))
    items = client.get("/api/v1/incidents").json()["items"]
    assert [item["open"] for item in items] == sorted((item["open"] for item in items), reverse=True)
    only = client.get("/api/v1/incidents?open=false").json()["items"]
    assert only and not any(item["open"] for item in only)
    assert client.get(f"/api/v1/incidents/{items[0]['id']}").json()["id"] == items[0]["id"]
    assert client.get("/api/v1/incidents/nope").status_code == 404
