"""Where the seconds of a job go: nested spans on any thread, summed up under one lock.

A span costs its thread two clock readings and one uncontended lock; nothing here does I/O. Spans count exclusively: what
an inner span takes is not counted for the outer one, so that compute, data wait, comm wait and checkpoint add up to the
step. A wait outside of a step belongs to the step that follows it on the same thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType

STEP, DATA_WAIT, COMM_WAIT, CHECKPOINT = "compute", "data_wait", "comm_wait", "checkpoint"
"""Kinds of span; what a step does not spend waiting is its compute."""


@dataclass(slots=True)
class _Track:
    """One thread's open spans, outermost first, the seconds that its next step inherits, and whether it runs steps."""

    spans: list[Span] = field(default_factory=list)
    pending: float = 0.0
    stepped: bool = False
    thread: int = field(default_factory=threading.get_native_id)


@dataclass(slots=True)
class _Mean:
    """Mean of what was added since the last look; with nothing new, the last mean stays."""

    count: int = 0
    total: float = 0.0
    last: float | None = None

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value

    def look(self) -> float | None:
        if self.count:
            self.last, self.count, self.total = self.total / self.count, 0, 0.0
        return self.last


@dataclass(frozen=True, slots=True)
class Totals:
    """A consistent look at everything: seconds by kind since the start, running spans included."""

    seconds: dict[str, float]
    steps: int
    step_seconds: float
    samples: float
    step_duration: float | None
    queue: float | None
    knobs: dict[str, float]


class Span:
    """A context manager that gives the time inside it, less inner spans, to `kind`."""

    __slots__ = ("_recorder", "_track", "began", "inner", "kind", "samples")

    def __init__(self, recorder: Recorder, kind: str, samples: float = 0.0) -> None:
        self._recorder, self.kind, self.samples = recorder, kind, samples
        self.inner = 0.0

    def __enter__(self) -> Span:
        self._track = self._recorder.track()
        if self.kind is STEP and self._track.spans:
            self._recorder.abandon(self._track)
        self.inner, self.began = 0.0, perf_counter()
        self._track.spans.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        whole = kind is None or kind is GeneratorExit  # a `break` out of `steps` ends its last step, an error does not
        self._recorder.close(self, self._track, whole)


class Relay:
    """Spans that follow one another, for callbacks, which have no `with` block."""

    def __init__(self) -> None:
        self._open: Span | None = None

    def turn(self, span: Span | None) -> None:
        """End the running span and begin `span`, or nothing."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = span.__enter__() if span is not None else None


class Recorder:
    """The sums of one process. Thread-safe; a forked child must make its own."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler may open a span while its own thread is inside `close`.
        self._lock = threading.RLock()
        self._local = threading.local()
        self._tracks: dict[int, _Track] = {}
        self._seconds = dict.fromkeys((STEP, DATA_WAIT, COMM_WAIT, CHECKPOINT), 0.0)
        self._steps, self._step_seconds, self._samples = 0, 0.0, 0.0
        self._duration, self._queue = _Mean(), _Mean()
        self._knobs: dict[str, float] = {}

    def track(self) -> _Track:
        """The calling thread's open spans."""
        try:
            return self._local.track  # type: ignore[no-any-return]
        except AttributeError:
            track = self._local.track = _Track()
            with self._lock:  # thread ids are reused: dead threads do not pile up
                self._tracks[threading.get_ident()] = track
            return track

    def close(self, span: Span, track: _Track, whole: bool = True) -> None:
        """Account for a span that ends; one that is no longer open (abandoned, closed twice) counts nothing."""
        with self._lock:
            while span in track.spans:
                self._pop(track, whole)

    def abandon(self, track: _Track) -> None:
        """End every span up to a step that was never closed (its loop broke off): only one step runs per thread."""
        with self._lock:
            while any(span.kind is STEP for span in track.spans):
                self._pop(track, whole=False)

    def _pop(self, track: _Track, whole: bool) -> None:
        span = track.spans.pop()
        elapsed = perf_counter() - span.began
        self._seconds[span.kind] += max(elapsed - span.inner, 0.0)
        if track.spans:
            track.spans[-1].inner += elapsed
        elif span.kind is STEP and whole:
            self._count(elapsed + track.pending, span.samples)
            track.pending, track.stepped = 0.0, True
        else:
            track.pending += elapsed

    def _count(self, duration: float, samples: float) -> None:
        self._steps += 1
        self._step_seconds += duration
        self._samples += samples
        self._duration.add(duration)

    def queue(self, batches: float | None) -> None:
        """Note how many prefetched batches were ready when one was asked for; None where nobody can know."""
        with self._lock:
            if batches is None:
                self._queue = _Mean()
            else:
                self._queue.add(batches)

    def knob(self, name: str, value: float) -> None:
        """Note the value of a knob that is in force from now on."""
        with self._lock:
            self._knobs[name] = value

    def threads(self) -> tuple[int, ...]:
        """The kernel's ids of the threads that run steps."""
        with self._lock:
            return tuple(track.thread for track in self._tracks.values() if track.stepped)

    def totals(self) -> Totals:
        """Everything so far. A wait that still runs counts with what it has taken, so that a hang shows where it hangs."""
        with self._lock:
            now, seconds, age = perf_counter(), dict(self._seconds), 0.0
            for track in self._tracks.values():
                spans = tuple(track.spans)  # its thread may open another meanwhile
                for span, child in zip(spans, (*spans[1:], None), strict=False):
                    running = now - child.began if child else 0.0
                    seconds[span.kind] += max(now - span.began - span.inner - running, 0.0)
                if spans and track.stepped:  # a checkpoint written on a side thread is not a hanging step
                    age = max(age, track.pending + now - spans[0].began)
            mean = self._duration.look()
            duration = None if mean is None and not age else max(mean or 0.0, age)
            return Totals(
                seconds, self._steps, self._step_seconds, self._samples, duration, self._queue.look(), dict(self._knobs)
            )
