"""The reservation ledger: never more than there is, whatever happens in whatever order; fenced; drains converge."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from aiops.action import Deny
from aiops.decide.reserve import LIVE, Capacity, Ledger, confirm, excess, find, grant, hold, release, renew, step
from aiops.model import HoldState, Reservation

ROOM = Capacity(
    gpus={"a": 8, "b": 8},
    cpu_cores={"a": 64.0, "b": 64.0},
    links={"nic-a": 10.0, "nic-b": 10.0, "rack": 12.0, "fabric": 100.0},
    parents={"nic-a": "rack", "nic-b": "rack", "rack": "fabric", "fabric": ""},
)


def wish(name: str = "h", fence: int = 1, now: float = 0.0, **fields: object) -> Reservation:
    plain = Reservation(
        name=name, owner="o", state=HoldState.HELD, fence=fence, created_at=now, expires_at=now + 30.0, hard_cap_at=now + 600.0,
        nodes=("a",), gpus=4,
    )  # fmt: skip
    return replace(plain, **fields)  # type: ignore[arg-type]


def used(ledger: Ledger, link: str, now: float = 0.0) -> float:
    """Bytes per second promised on a link, written again here without the code under test."""
    below = {"rack": ("rack", "nic-a", "nic-b"), "fabric": ("fabric", "rack", "nic-a", "nic-b")}.get(link, (link,))
    return sum(one.bandwidth_bytes_per_s.get(name, 0.0) for one in ledger if one.state in LIVE for name in below)


def test_a_hold_is_whole_or_not_at_all() -> None:
    first = hold((), wish(bandwidth_bytes_per_s={"nic-a": 8.0}), ROOM, 0.0).ledger
    second = hold(first, wish("k", nodes=("b",), gpus=1, bandwidth_bytes_per_s={"nic-b": 8.0}), ROOM, 0.0)
    assert second.denied is Deny.NO_CAPACITY  # the NIC has room, the rack uplink above both has not
    assert second.ledger == first


def test_the_same_request_twice_is_one_hold_and_another_fence_is_refused() -> None:
    once = hold((), wish(), ROOM, 0.0).ledger
    assert hold(once, wish(), ROOM, 1.0).ledger == once
    assert hold(once, wish(fence=2), ROOM, 1.0).denied is Deny.INVALID


def test_a_late_confirm_is_refused_by_term_and_by_fence() -> None:
    held = hold((), wish(), ROOM, 0.0).ledger
    assert confirm(held, "h", 1, 30.0).denied is Deny.INVALID
    again = hold(step(held, 31.0), wish(fence=2, now=31.0), ROOM, 31.0).ledger
    assert confirm(again, "h", 1, 32.0).denied is Deny.INVALID
    assert confirm(again, "h", 2, 32.0).denied is None
    assert hold(step(held, 31.0), wish(fence=1, now=31.0), ROOM, 31.0).denied is Deny.INVALID


def test_renewal_never_passes_the_hard_cap_nor_revives_the_expired() -> None:
    held = hold((), wish(hard_cap_at=50.0), ROOM, 0.0).ledger
    later = renew(held, "h", 1, 29.0, 30.0).ledger
    assert find(later, "h") == wish(hard_cap_at=50.0, expires_at=50.0)
    assert renew(later, "h", 1, 50.0, 30.0).denied is Deny.INVALID


def test_release_is_idempotent_and_frees() -> None:
    full = hold((), wish(gpus=8), ROOM, 0.0).ledger
    free = release(full, "h", 1).ledger
    assert release(free, "h", 1).ledger == free
    assert hold(free, wish("k", gpus=8), ROOM, 0.0).denied is None


def test_a_need_displaces_a_forecasts_hold_but_a_forecast_never_displaces_a_need() -> None:
    foreseen = hold((), wish("f", gpus=8, from_forecast="load"), ROOM, 0.0).ledger
    needed = hold(foreseen, wish("n", gpus=8), ROOM, 1.0)
    assert needed.denied is None
    assert find(needed.ledger, "f") == replace(wish("f", gpus=8, from_forecast="load"), state=HoldState.CANCELLED)
    assert hold(needed.ledger, wish("g", gpus=8, from_forecast="load", priority=99), ROOM, 1.0).denied is Deny.NO_CAPACITY


def test_a_forecasts_hold_ends_when_the_forecast_is_withdrawn() -> None:
    foreseen = hold((), wish("f", from_forecast="load"), ROOM, 0.0).ledger
    assert find(step(foreseen, 1.0, frozenset({"load"})), "f") == foreseen[0]
    assert step(foreseen, 1.0)[0].state is HoldState.CANCELLED


def test_an_advance_reservation_takes_nothing_before_its_start_and_everything_after() -> None:
    noon = wish("noon", gpus=8, starts_at=100.0, ends_at=200.0, expires_at=130.0)
    ledger = hold((), noon, ROOM, 0.0).ledger
    assert hold(ledger, wish("soon", gpus=8, ends_at=100.0), ROOM, 0.0).denied is None
    assert hold(ledger, wish("long", gpus=8, ends_at=101.0), ROOM, 0.0).denied is Deny.NO_CAPACITY
    active = confirm(ledger, "noon", 1, 110.0).ledger
    assert step(active, 200.0)[0].state is HoldState.RELEASED


def test_a_hold_of_now_counts_even_when_the_clock_steps_back_before_its_birth() -> None:
    ledger = hold((), wish(now=20.0, gpus=8), ROOM, 20.0).ledger
    assert hold(ledger, wish("k", gpus=8, ends_at=20.0), ROOM, 0.0).denied is Deny.NO_CAPACITY


def test_grants_go_by_need_then_priority_then_name() -> None:
    asked = [wish("c", gpus=8, from_forecast="x", priority=9), wish("b", gpus=8), wish("a", gpus=8, priority=1)]
    _, answers = grant((), asked, ROOM, 0.0)
    assert answers == {"a": None, "b": Deny.NO_CAPACITY, "c": Deny.NO_CAPACITY}


def test_what_is_not_there_cannot_be_held() -> None:
    assert hold((), wish(nodes=("ghost",)), ROOM, 0.0).denied is Deny.NO_CAPACITY
    assert hold((), wish(bandwidth_bytes_per_s={"ghost": 1.0}), ROOM, 0.0).denied is Deny.NO_CAPACITY


@pytest.mark.parametrize("drain_s", [5.0, 29.0, 31.0, 300.0])
@pytest.mark.parametrize("tick_s", [1.0, 10.0, 20.0])
def test_drains_of_any_length_converge_while_the_hold_is_renewed(drain_s: float, tick_s: float) -> None:
    """30 s equals Slurm's KillWait and is shorter than pod termination: a hold that could not be renewed would never end."""
    ledger, now = hold((), wish(gpus=8), ROOM, 0.0).ledger, 0.0
    rival = wish("rival", gpus=8)
    while now < drain_s:
        now += tick_s
        ledger = step(renew(ledger, "h", 1, now, 30.0).ledger, now)
        assert hold(ledger, replace(rival, created_at=now), ROOM, now).denied is Deny.NO_CAPACITY
    assert confirm(ledger, "h", 1, now).denied is None


class Holds(RuleBasedStateMachine):
    """Any sequence of holds, confirmations, renewals, releases and passing time, replies lost and repeated."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger = ()
        self.now = 0.0
        self.ended: dict[tuple[str, int], HoldState] = {}

    @rule(target=names, name=st.sampled_from("pqrs"), fence=st.integers(1, 5), gpus=st.integers(0, 12),
          nodes=st.sampled_from([(), ("a",), ("b",), ("a", "b")]), rate=st.floats(0, 15), priority=st.integers(0, 3),
          link=st.sampled_from(["nic-a", "nic-b", "rack", "fabric"]), forecast=st.sampled_from(["", "load"]),
          start=st.sampled_from([None, 10.0, 100.0]), lasts=st.sampled_from([None, 20.0, 200.0]))  # fmt: skip
    def hold(self, name, fence, gpus, nodes, rate, priority, link, forecast, start, lasts):  # type: ignore[no-untyped-def]
        first = None if start is None else self.now + start
        last = None if lasts is None else (self.now if first is None else first) + lasts
        asked = wish(name, fence, self.now, gpus=gpus, nodes=nodes, bandwidth_bytes_per_s={link: rate}, priority=priority,
                     from_forecast=forecast, starts_at=first, ends_at=last)  # fmt: skip
        self.ledger = hold(self.ledger, asked, ROOM, self.now).ledger
        return name, fence

    @rule(who=names)
    def confirm(self, who: tuple[str, int]) -> None:
        self.ledger = confirm(self.ledger, *who, self.now).ledger

    @rule(who=names, term=st.floats(1, 1000))
    def renew(self, who: tuple[str, int], term: float) -> None:
        self.ledger = renew(self.ledger, *who, self.now, term).ledger

    @rule(who=names)
    def release(self, who: tuple[str, int]) -> None:
        self.ledger = release(self.ledger, *who).ledger

    @rule(seconds=st.floats(0, 400), alive=st.booleans())
    def pass_time(self, seconds: float, alive: bool) -> None:
        self.now += seconds
        self.ledger = step(self.ledger, self.now, frozenset({"load"} if alive else ()))

    @rule(seconds=st.floats(0, 400))
    def clock_steps_back(self, seconds: float) -> None:
        self.now = max(0.0, self.now - seconds)

    @invariant()
    def never_more_than_there_is(self) -> None:
        assert excess(self.ledger, ROOM, self.now) == ""
        begun = tuple(one for one in self.ledger if one.state in LIVE and (one.starts_at or 0.0) <= self.now)
        begun = tuple(one for one in begun if one.ends_at is None or one.ends_at > self.now)
        for link, most in ROOM.links.items():
            assert used(begun, link) <= most * (1 + 1e-9)
        assert sum(one.gpus for one in begun) <= 16

    @invariant()
    def terminal_stays_terminal_and_terms_stay_capped(self) -> None:
        for one in self.ledger:
            assert one.expires_at <= one.hard_cap_at
            before = self.ended.get((one.name, one.fence))
            assert before in (None, one.state), f"{one.name} left {before}"
            if one.state not in LIVE:
                self.ended[one.name, one.fence] = one.state


Holds.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestHolds = Holds.TestCase
