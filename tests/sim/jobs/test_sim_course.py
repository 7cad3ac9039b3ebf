"""The closed formulas of a run against a run that is stepped second by second."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.sim.jobs.course import Course


def stepped(interval: int, cost: int, until: int) -> tuple[int, int, int | None]:
    """Work done, durable work and time of the last checkpoint after `until` seconds, one second at a time."""
    done = durable = 0
    at, worked, writing = None, 0, 0
    for second in range(until):
        if writing:
            writing -= 1
            if not writing:
                durable, at = done, second + 1
            continue
        done, worked = done + 1, worked + 1
        if worked == interval:
            worked, writing = 0, cost
            if not cost:
                durable, at = done, second + 1
    return done, durable, at


@given(interval=st.integers(1, 50), cost=st.integers(0, 20), until=st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_work_and_checkpoints_are_what_stepping_gives(interval: int, cost: int, until: int) -> None:
    course = Course(begin=0.0, base=0.0, before=0.0, interval_s=interval, cost_s=cost)
    done, durable, at = stepped(interval, cost, until)
    assert (course.done(until), course.durable(until)) == (done, durable)
    assert course.checkpointed_at(until) == at


@given(interval=st.integers(1, 50), cost=st.integers(0, 20), total=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_a_job_ends_when_its_work_is_done_and_writes_no_checkpoint_then(interval: int, cost: int, total: int) -> None:
    course = Course(begin=0.0, base=0.0, before=0.0, interval_s=interval, cost_s=cost)
    end = course.end(total)
    assert course.done(end) == total
    assert course.done(end - 0.5) < total


def test_what_was_asked_for_is_durable_once_written() -> None:
    course = Course(begin=100.0, base=50.0, before=50.0, interval_s=600.0, cost_s=30.0)
    assert course.checkpointed_at(200.0) is None, "an older run's checkpoint proves nothing of this one"
    asked = course.ask(200.0)
    assert (asked.done(215.0), asked.durable(215.0)) == (150.0, 50.0)
    assert (asked.durable(230.0), asked.checkpointed_at(230.0)) == (150.0, 230.0)
    assert asked.end(250.0) == pytest.approx(course.end(250.0) + 30.0)


def test_a_run_without_checkpoints_keeps_nothing_of_its_own() -> None:
    course = Course(begin=0.0, base=0.0, before=0.0)
    assert (course.done(5000.0), course.durable(5000.0), course.checkpointed_at(5000.0)) == (5000.0, 0.0, None)
    assert course.end(6000.0) == 6000.0
    assert math.isinf(course.interval_s)
