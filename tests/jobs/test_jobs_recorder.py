"""The accounting: where the seconds of a step go, on a clock that the test moves."""

import threading

import pytest

from aiops.jobs import recorder as recorder_module
from aiops.jobs.recorder import CHECKPOINT, COMM_WAIT, DATA_WAIT, STEP, Recorder, Span, Totals


class Watch:
    """perf_counter by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(recorder_module, "perf_counter", watch)
    return watch


def spend(recorder: Recorder, watch: Watch, kind: str, seconds: float, *inner: tuple[str, float]) -> None:
    with Span(recorder, kind, samples=8):
        for child, spent in inner:
            with Span(recorder, child):
                watch.at += spent
        watch.at += seconds


def test_a_step_is_the_sum_of_its_parts(watch: Watch) -> None:
    recorder = Recorder()
    spend(recorder, watch, DATA_WAIT, 1.0)
    spend(recorder, watch, STEP, 4.0, (COMM_WAIT, 2.0), (CHECKPOINT, 3.0))
    totals = recorder.totals()
    assert totals.seconds == {STEP: 4.0, DATA_WAIT: 1.0, COMM_WAIT: 2.0, CHECKPOINT: 3.0}
    assert totals.step_seconds == sum(totals.seconds.values()) == totals.step_duration
    assert (totals.steps, totals.samples) == (1, 8)


def test_a_nested_wait_counts_once_for_the_innermost(watch: Watch) -> None:
    recorder = Recorder()
    spend(recorder, watch, DATA_WAIT, 1.0, (COMM_WAIT, 2.0))
    assert recorder.totals().seconds[DATA_WAIT] == 1.0
    assert recorder.totals().seconds[COMM_WAIT] == 2.0


def test_a_hang_shows_while_it_lasts_and_where(watch: Watch) -> None:
    """Given steps of 1 s, when a wait for data does not end, then step time and data wait both grow, and never shrink after."""
    recorder = Recorder()
    spend(recorder, watch, STEP, 1.0)
    recorder.totals()
    with Span(recorder, STEP), Span(recorder, DATA_WAIT):
        watch.at += 60.0
        hanging = recorder.totals()
    after = recorder.totals()
    assert (hanging.step_duration, hanging.seconds[DATA_WAIT], hanging.steps) == (60.0, 60.0, 1)
    assert after.seconds == hanging.seconds


def test_a_slow_checkpoint_on_a_side_thread_is_not_a_hanging_step(watch: Watch) -> None:
    recorder = Recorder()
    spend(recorder, watch, STEP, 1.0)
    opened, done = threading.Event(), threading.Event()

    def save() -> None:
        with Span(recorder, CHECKPOINT):
            opened.set()
            done.wait(10)

    side = threading.Thread(target=save)
    side.start()
    opened.wait(10)
    watch.at += 600.0
    assert recorder.totals().step_duration == 1.0
    done.set()
    side.join()


def test_the_mean_is_of_the_latest_steps_and_stays_when_none_ends(watch: Watch) -> None:
    recorder = Recorder()
    spend(recorder, watch, STEP, 9.0)
    recorder.totals()
    spend(recorder, watch, STEP, 1.0)
    spend(recorder, watch, STEP, 2.0)
    assert recorder.totals().step_duration == 1.5
    assert recorder.totals().step_duration == 1.5
    assert Recorder().totals().step_duration is None  # missing is not zero


def test_a_step_that_raised_is_not_a_step_but_its_time_is_not_lost(watch: Watch) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError), Span(recorder, STEP):
        watch.at += 5.0
        raise ValueError
    assert recorder.totals().steps == 0
    spend(recorder, watch, STEP, 1.0)
    assert recorder.totals().step_seconds == 6.0


def test_a_step_left_open_does_not_swallow_the_next(watch: Watch) -> None:
    """Given a loop that broke off in a notebook with its step open, when training starts again, then steps count."""
    recorder = Recorder()
    zombie = Span(recorder, STEP)
    zombie.__enter__()
    spend(recorder, watch, STEP, 1.0)
    zombie.__exit__(None, None, None)
    assert recorder.totals().steps == 1


def test_many_threads_lose_nothing() -> None:
    recorder = Recorder()

    def work() -> None:
        for _ in range(500):
            with Span(recorder, STEP, samples=1), Span(recorder, DATA_WAIT):
                pass

    threads = [threading.Thread(target=work) for _ in range(16)]
    seen: list[Totals] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(recorder.totals())
    assert recorder.totals().samples == recorder.totals().steps == 16 * 500
    waits = [totals.seconds[DATA_WAIT] for totals in seen]
    assert waits == sorted(waits)  # counters never fall, also while spans are open
