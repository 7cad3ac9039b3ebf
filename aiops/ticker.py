"""The ticker: APScheduler as an in-memory UTC clockwork and nothing else; what may not be lost lives in the store.

The main thread waits for a signal and watches two things that would leave the ticker asleep: a step of the wall clock, and
this daemon coming to lead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from aiops.clock import Clock

CLOCK_STEP_S = 2.0  # a wall step beyond this wakes the ticker; NTP slews stay far below
DRAIN_S = 20.0
BESIDE = frozenset({"forecast", "diagnose"})  # what they compute can be computed again: the drain does not wait for it
BESIDE_S = 2.0
FIRST_S = 10.0  # nobody waits a whole period for the first forecast
Jobs = dict[str, tuple[Callable[[], None], float]]
log = structlog.get_logger("aiops.ticker")


@contextmanager
def ticking(jobs: Jobs, busy: Set[str], clock: Clock) -> Iterator[Callable[[], None]]:
    """Run jobs, each in its period, until the block ends; then drain what is in `busy`. Yields a way to run all of them now."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(len(jobs))}, job_defaults=defaults, timezone=UTC, daemon=True
    )
    for name, (tick, period_s) in jobs.items():
        first = datetime.fromtimestamp(clock.now() + min(period_s, FIRST_S), UTC)
        scheduler.add_job(tick, "interval", seconds=period_s, id=name, next_run_time=first)
    scheduler.start()

    def wake() -> None:
        for job in scheduler.get_jobs():
            job.modify(next_run_time=datetime.fromtimestamp(clock.now(), UTC))

    try:
        yield wake
    finally:
        scheduler.shutdown(wait=False)
        drain(busy, clock)


def drain(busy: Set[str], clock: Clock) -> None:
    """Wait until running jobs have ended: briefly for what can be computed again, longest for what has effects."""
    started, pause = clock.elapsed(), threading.Event()
    while busy:
        waited = clock.elapsed() - started
        if waited > DRAIN_S or (waited > BESIDE_S and busy <= BESIDE):
            return
        pause.wait(0.05)


def wait(stop: threading.Event, clock: Clock, wake: Callable[[], None], epoch: Callable[[], int | None]) -> None:
    """Until told to stop; wakes the ticker when the wall clock moved apart from the monotonic one, and when we come to lead."""
    offset, led = clock.now() - clock.elapsed(), epoch()
    while not stop.wait(1.0):
        if epoch() not in (led, None):
            wake()
        led = epoch()
        drift = clock.now() - clock.elapsed() - offset
        if abs(drift) > CLOCK_STEP_S:
            log.warning("wall clock stepped", seconds=round(drift, 1))
            offset += drift
            wake()
