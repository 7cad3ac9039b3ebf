"""Grouping, waiting, dedup and repetition, told as a table of looks at a group; and no transition is ever lost."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.action import Order, OrderKind
from aiops.notify.alert import Alert
from aiops.notify.payload import MAX_ALERTS, webhook_body
from aiops.notify.route import TELLS, Group, Notice, Reason, Routed, group_key, route
from aiops.settings import Route

RULES = Route(receiver="ops", group_by=("alertname",), group_wait=30.0, group_interval=300.0, repeat_interval=4000.0)
SILENCE = Order(id="s", at=0.0, by="ann", kind=OrderKind.SILENCE, target="subject=a")


def alert(subject: str, now: float, name: str = "IoStall") -> Alert:
    return Alert(labels=(("alertname", name), ("subject", subject)), annotations=(), starts_at=now, seen_at=now)


class Room:
    """A receiver's view of one route over time."""

    def __init__(self) -> None:
        self.groups: tuple[Group, ...] = ()

    def look(self, now: float, firing: str, *silences: Order) -> Routed:
        routed = route([alert(subject, now) for subject in firing], self.groups, RULES, silences, now)
        self.groups = routed.groups
        return routed


def reasons(*looks: tuple[float, str]) -> list[Reason]:
    room = Room()
    return [next(iter(room.look(now, firing).reasons.values()), Reason.UNTOLD) for now, firing in looks]


@pytest.mark.parametrize(
    ("looks", "last", "why"),
    [
        ([(0, "a")], Reason.WAITING, "others may follow within group_wait"),
        ([(0, "a"), (30, "ab")], Reason.FIRST, "after group_wait, together"),
        ([(0, "a"), (30, "a"), (40, "ab")], Reason.WAITING, "the next look is a group_interval away"),
        ([(0, "a"), (30, "a"), (330, "ab")], Reason.NEW, "b is new"),
        ([(0, "a"), (30, "a"), (330, "a")], Reason.UNCHANGED, "nothing new"),
        ([(0, "a"), (30, "ab"), (330, "a")], Reason.SOME_RESOLVED, "b is over, a is not"),
        ([(0, "a"), (30, "a"), (330, "")], Reason.ALL_RESOLVED, "all is over"),
        ([(0, "a"), (30, "")], Reason.UNTOLD, "it came and went within group_wait"),
        ([(0, "a"), (30, "a"), (4029, "a")], Reason.UNCHANGED, "not yet time to repeat"),
        ([(0, "a"), (30, "a"), (4031, "a")], Reason.REPEAT, "still firing after repeat_interval"),
        ([(0, "a"), (30, "a"), (330, ""), (340, "a"), (370, "a")], Reason.FIRST, "a new occurrence of a group that was over"),
        ([(5000, "a"), (5030, "a"), (1400, "ab")], Reason.NEW, "a clock that stepped back makes it look at once"),
    ],
)
def test_each_look_has_a_named_reason(looks: list[tuple[float, str]], last: Reason, why: str) -> None:
    assert reasons(*looks)[-1] == last, why


def test_a_group_that_is_over_is_forgotten() -> None:
    room = Room()
    for now, firing in ((0, "a"), (30, "a"), (330, "")):
        room.look(now, firing)
    assert room.groups == ()


def test_a_silence_hides_what_fires_and_its_end_tells_it() -> None:
    room = Room()
    room.look(0, "a")
    assert room.look(30, "a", SILENCE).reasons == {'{}:{alertname="IoStall"}': Reason.SILENCED}
    (notice,) = room.look(330, "ab", SILENCE).notices
    assert [dict(one.labels)["subject"] for one in notice.alerts] == ["b"]
    (notice,) = room.look(630, "ab").notices
    assert notice.reason == Reason.NEW


def test_the_end_of_what_was_told_is_told_even_under_a_silence() -> None:
    room = Room()
    room.look(0, "a")
    room.look(30, "a")
    assert room.look(330, "a", SILENCE).notices == ()
    (notice,) = room.look(630, "", SILENCE).notices
    assert notice.reason == Reason.ALL_RESOLVED


def test_an_event_holds_for_a_while_after_it_was_last_seen() -> None:
    held = replace(alert("a", 0.0), holds_s=300.0)
    groups = route([held], (), RULES, (), 0.0).groups
    groups = route([], groups, RULES, (), 30.0).groups
    assert groups[0].alerts[0].ends_at is None
    routed = route([], groups, RULES, (), 330.0)
    assert routed.notices[0].reason == Reason.ALL_RESOLVED


def test_alerts_are_grouped_by_the_labels_that_they_have() -> None:
    alerts = [alert("a", 0.0), alert("b", 0.0), alert("a", 0.0, "GpuFault")]
    by = {
        name: len(route(alerts, (), replace_group_by(name), (), 0.0).groups) for name in ("alertname", "subject", "...", "none")
    }
    assert by == {"alertname": 2, "subject": 2, "...": 3, "none": 1}
    assert group_key((("a", 'x"\n\\'),)) == '{}:{a="x\\"\\n\\\\"}'


def replace_group_by(name: str) -> Route:
    return RULES.model_copy(update={"group_by": (name,)})


@given(st.lists(st.tuples(st.floats(1, 400), st.sets(st.sampled_from("abc"))), max_size=40))
def test_the_receiver_ends_up_knowing_what_is_firing(steps: list[tuple[float, set[str]]]) -> None:
    """Whatever comes and goes: once things stay as they are for two looks, what was told equals what is."""
    room, known, now = Room(), dict[str, bool](), 0.0
    last = steps[-1][1] if steps else set[str]()
    for pause, firing in [*steps, (400.0, last), (400.0, last)]:
        now += pause
        for notice in room.look(now, "".join(sorted(firing))).notices:
            assert notice.reason in TELLS
            known |= {dict(one.labels)["subject"]: one.ends_at is None for one in notice.alerts}
    assert {subject for subject, fires in known.items() if fires} == last


def notice(*alerts: Alert) -> Notice:
    return Notice(key="{}:{}", labels=(), opened_at=0.0, number=1, reason=Reason.FIRST, alerts=alerts)


def test_the_body_is_alertmanagers_version_4() -> None:
    ended = replace(alert("b", 1.5), ends_at=61.0)
    body = json.loads(webhook_body(notice(alert("a", 1.5), ended), "ops", "http://aiops.example"))
    assert body["version"] == "4"
    assert (body["status"], body["receiver"], body["notification_reason"]) == ("firing", "ops", "first notification")
    assert body["commonLabels"] == {"alertname": "IoStall"}
    firing, resolved = body["alerts"]
    assert (firing["startsAt"], firing["endsAt"]) == ("1970-01-01T00:00:01.500Z", "0001-01-01T00:00:00Z")
    assert (resolved["status"], resolved["endsAt"]) == ("resolved", "1970-01-01T00:01:01.000Z")
    assert json.loads(webhook_body(notice(ended), "ops"))["status"] == "resolved"


def test_a_flood_is_cut_and_says_so() -> None:
    body = json.loads(webhook_body(notice(*(alert(str(i), 0.0) for i in range(MAX_ALERTS + 3))), "ops"))
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (MAX_ALERTS, 3)
