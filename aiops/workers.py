"""Where forecasts are computed: processes of our own, or a Dask cluster of the user's. The same tasks, the same bits.

Tasks go out as plain values and come back as a result or a reason; nothing that a task does can raise here, and nothing
outlives its deadline. Knows nothing of forecasts.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import Any, Protocol

from aiops.clock import SystemClock

END_S, CONNECT_S = 5.0, 10.0
"""How long the end of our processes, and a scheduler's answer, are waited for."""


class Executor(Protocol):
    """Where the work is done. The same tasks give the same results, bit for bit, wherever that is."""

    def run(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], timeout_s: float) -> list[tuple[Any, str]]:
        """(result, "") or (None, reason) per task, in order; all within `timeout_s`. Never raises for what the work does."""
        ...

    def close(self) -> None:
        """End everything, whatever it is doing."""
        ...


class Workers:
    """Local processes: spawned, one thread each, recycled, ended when a task passes its deadline."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool: Pool | None = None

    def run(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], timeout_s: float) -> list[tuple[Any, str]]:
        """As Executor.run. A worker that hangs or dies costs its task and the pool, not the caller."""
        if self._pool is None:
            # spawn: forking after a Prophet fit hangs for ever when polars is installed. Recycled: a fit leaves 52 KB behind.
            self._pool = multiprocessing.get_context("spawn").Pool(self.count, initializer=prepare_worker, maxtasksperchild=50)
        pending = [self._pool.apply_async(attempt, (work, *task)) for task in tasks]
        clock, results = SystemClock(), []
        deadline = clock.elapsed() + timeout_s
        for one in pending:
            try:
                results.append(one.get(max(0.0, deadline - clock.elapsed())))
            except multiprocessing.TimeoutError:
                results.append((None, "fit timed out"))
            except Exception as error:  # the wall around a worker: its result may be one that cannot be sent
                results.append((None, f"fit failed: {type(error).__name__}"))
        if any(reason == "fit timed out" for _, reason in results):
            self.close()
        return results

    def close(self) -> None:
        """Terminate the processes; a worker that was killed while it held the pool's lock must not hold up our end."""
        pool, self._pool = self._pool, None
        if pool is not None:
            ending = threading.Thread(target=pool.terminate, name="end-workers", daemon=True)
            ending.start()
            ending.join(END_S)


class DaskWorkers:
    """A Dask cluster of the user's (extra `dask`): a distributed.Client, or the address of a scheduler to connect to."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], timeout_s: float) -> list[tuple[Any, str]]:
        """As Executor.run; what is unfinished at the deadline is cancelled."""
        from distributed import Client, wait

        if isinstance(self.client, str):
            try:
                self.client = Client(self.client, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError):
                return [(None, "the Dask scheduler does not answer")] * len(tasks)

        try:
            sent = [[self._placed(part) for part in task] for task in tasks]
        except TimeoutError:
            return [(None, "the Dask scheduler has no workers")] * len(tasks)
        futures = [self.client.submit(work, *task, pure=False) for task in sent]
        try:
            wait(futures, timeout=timeout_s)  # type: ignore[no-untyped-call]
        except TimeoutError:
            self.client.cancel([f for f in futures if not f.done()])
        results: list[tuple[Any, str]] = []
        for future in futures:
            if future.status == "finished":
                results.append((future.result(), ""))
            elif future.status == "error":
                results.append((None, f"fit failed: {type(future.exception()).__name__}"))
            else:
                results.append((None, "fit timed out"))
        return results

    def _placed(self, part: Any) -> Any:
        """A model of megabytes goes to the workers once, by its hash, and not through the scheduler with every task."""
        return self.client.scatter(part, hash=True) if isinstance(part, bytes) else part

    def close(self) -> None:
        """Let go of the cluster; it is the user's."""
        if not isinstance(self.client, str):
            self.client.close()


def attempt(work: Callable[..., Any], *task: Any) -> tuple[Any, str]:
    """The result of a task or the reason, as Executor.run gives them; runs in a worker.

    What was raised stays there: one exception that the daemon could not rebuild ended its thread that reads results, after
    which every task timed out and the workers could not be ended.
    """
    try:
        return work(*task), ""
    except (Exception, SystemExit) as error:  # the wall around a task: it may raise anything
        return None, f"fit failed: {type(error).__name__}"


def prepare_worker() -> None:
    """Make this process fit to learn in, and deaf to Ctrl-C: that is the parent's business, which ends the workers."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_fits()


def prepare_fits() -> None:
    """Cap this process to one thread and silence the fitting libraries' logs."""
    import logging
    import os

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # beside other load, boosting trains 7-14 times slower with more
    for name in ("cmdstanpy", "prophet", "prophet.plot"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).addHandler(logging.NullHandler())  # without one, cmdstanpy sets up a chatty one of its own
