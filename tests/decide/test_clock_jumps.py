"""A wall clock that jumps ends no rest early and is not forgotten by a restart (I14, I15): what the stateful campaign found."""

import pytest
from lying_world import World, drain, scale

from aiops.action import Deny, OrderKind
from aiops.loop import Memory


def test_a_jump_of_more_than_a_day_does_not_forget_what_was_just_done() -> None:
    world = World()
    world.cycle(drain("n9", cordon=True))
    world.cycle()  # confirmed: what is open is never forgotten
    world.clock.step_wall(90_000.0)
    decided = world.cycle(drain("n9", cordon=True))
    assert decided is not None
    assert decided.admissions[0].denied is Deny.COOLDOWN
    assert world.violations() == ()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0], ids=["ahead", "back"])
def test_a_jump_that_was_seen_outlasts_a_restart(seconds: float) -> None:
    world = World()
    world.cycle()
    world.clock.step_wall(seconds)
    world.cycle()
    world.memory = Memory()
    decided = world.cycle(scale("web", 2))
    assert decided is not None
    assert decided.admissions[0].denied is Deny.CLOCK_STEPPED


def test_a_jump_is_forgotten_after_an_hour() -> None:
    world = World()
    world.cycle()
    world.clock.step_wall(60.0)
    world.cycle()
    world.memory = Memory()
    decided = world.cycle(scale("web", 2), after=3700.0)
    assert decided is not None
    assert decided.admissions[0].permitted


def test_an_order_of_the_future_resets_no_breaker() -> None:
    """Given a reset, when the clock goes back a day, then failures after it trip the breaker all the same."""
    world = World(limits={"cooldown_s": 1.0, "destructive_cooldown_s": 1.0})
    world.cycle()
    world.order(OrderKind.RESET_BREAKER)
    world.clock.step_wall(-86_400.0)
    world.cycle()
    world.cycle(after=4000.0)
    world.mood("do nothing")
    for name in ("web", "api", "web", "api"):
        world.cycle(scale(name, 6))
        world.cycle(after=100.0)
    assert world.store.state("breaker") not in (None, b"None")
