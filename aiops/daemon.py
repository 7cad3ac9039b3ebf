"""The daemon: build the house, tick, listen, drain. What may be lost lives here, what may not lives in the store."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EADDRNOTAVAIL

import structlog

from aiops.action import Mode
from aiops.api.app import create_app
from aiops.api.auth import check_bind
from aiops.api.status import Status
from aiops.clock import Clock, SystemClock
from aiops.demand import sampled
from aiops.errors import ConfigError, Permanent, Temporary
from aiops.killswitch import KillSwitch
from aiops.leadership import RENEW_S
from aiops.logs import configure
from aiops.loop import run_cycle
from aiops.ports import Announces, Finishes, Supervises
from aiops.refresh import refresh_findings
from aiops.settings import Settings
from aiops.ticker import BESIDE, DRAIN_S, Jobs, ticking, wait
from aiops.wiring import Parts, assemble, foreseen

LAPSE_S = 60.0
BLIND_S = 5.0  # a cluster that the leader cannot see for longer than this, and at two looks, may be seen by another daemon
log = structlog.get_logger("aiops.daemon")


class Daemon:
    """The scheduled work of one process. Each method is one tick and returns; `jobs` puts a wall around each."""

    def __init__(self, settings: Settings, parts: Parts, clock: Clock) -> None:
        self.settings, self.parts, self.clock = settings, parts, clock
        self.ready = False
        self.reason = "starting"
        self.cycle_at: float | None = None
        self.cycle_s: float | None = None
        self.busy: set[str] = set()
        self._through: float | None = None
        self._blind: float | None = None  # when the first look of a row of looks failed
        self._gave_way = False
        self._led: int | None = None

    def jobs(self) -> Jobs:
        """Name -> (tick that never raises, period in seconds) of everything that is scheduled."""
        every = self.settings.every
        ticks = {
            "lease": (self.lease, RENEW_S),
            "scrape": (self.scrape, every.scrape),
            "cycle": (self.cycle, every.tick),
            "forecast": (self.forecast, every.forecast),
            "diagnose": (self.diagnose, every.diagnose),
            "supervise": (self.supervise, 1.0),
            "deliver": (self.deliver, 1.0),
            "prune": (self.prune, 3600.0),
        }
        return {name: (_survive(name, tick, self.busy), period_s) for name, (tick, period_s) in ticks.items()}

    def lease(self) -> None:
        """Keep or take leadership."""
        epoch = self.parts.leadership.renew()
        if epoch != self._led:
            log.info("leadership", epoch=epoch, trouble=self.parts.leadership.trouble)
        self._led = epoch

    def scrape(self) -> None:
        """Run the collectors into the store."""
        self.parts.scraper.scrape(self.clock.now())

    def cycle(self) -> None:
        """One decision cycle, if this daemon leads; a lost race for the lease ends it without an effect."""
        epoch = self.parts.leadership.epoch
        if epoch is None or not self.parts.leadership.leads():
            trouble = self.parts.leadership.trouble
            self.ready = not trouble
            self.reason = f"cannot lead: {trouble}" if trouble else "standby: another daemon leads"
            return
        started, now = self.clock.elapsed(), self.clock.now()
        try:
            decided = run_cycle(self.parts.house, self.parts.memory, now, epoch)
        except Temporary as error:
            log.warning("cycle ended early", reason=str(error))
            self._not_through(str(error), started)
            return
        if decided is None:
            self._not_through(self.parts.memory.abstained, started)
            self._give_way(started)
            return
        self._blind, self._gave_way = None, False
        self.cycle_at, self.cycle_s = now, self.clock.elapsed() - started
        self._through = started
        self.ready, self.reason = True, ""
        if self.parts.memory.cluster is not None:
            self.parts.store.append(sampled(self.parts.memory.cluster, self.parts.store))

    def _not_through(self, reason: str, elapsed: float) -> None:
        """One cycle may abstain without a stir; not ready are we before the first, and after several in a row."""
        patience = max(LAPSE_S, 3 * self.settings.every.tick)
        if self._through is None or elapsed - self._through > patience:
            self.ready, self.reason = False, f"no cycle is completed: {reason}"

    def _give_way(self, elapsed: float) -> None:
        """A leader that cannot see the cluster lets another try: once, so that two that are both blind keep what they have."""
        self._blind = elapsed if self._blind is None else self._blind
        if elapsed - self._blind >= BLIND_S and not self._gave_way:
            self._gave_way = True
            log.warning("gives up the lead: it cannot see the cluster", reason=self.parts.memory.abstained)
            self.parts.leadership.give_way()

    def forecast(self) -> None:
        """Refresh the forecasts beside the loop: of everything that a policy looks at or that can run out."""
        cluster = self.parts.memory.cluster
        if cluster is not None and self.parts.leadership.leads():
            self.parts.refresher.forecasts(self.clock.now(), foreseen(self.parts.house.policies, cluster))

    def diagnose(self) -> None:
        """Refresh the diagnosis beside the loop."""
        cluster = self.parts.memory.cluster
        if cluster is not None and self.parts.leadership.leads():
            ask = (self.clock.now(), self.parts.evidence)
            refresh_findings(self.parts.store, self.parts.diagnosers, cluster, ask, self.parts.refresher)

    def supervise(self) -> None:
        """Between cycles, let a backend that runs processes itself look after them, or leave them to the one that leads."""
        backend, leadership = self.parts.house.backend, self.parts.leadership
        if isinstance(backend, Announces) and leadership.epoch is not None and leadership.leads():
            backend.announce(leadership.holder, leadership.epoch, self.clock.now())
        if isinstance(backend, Finishes) and self._may_act():
            for what in backend.finish(self.clock.now()):
                log.info("finished what was begun", what=what)
        if not isinstance(backend, Supervises):
            return
        if self.parts.leadership.leads():
            backend.supervise(self.clock.now())
        else:
            backend.stand_down()

    def _may_act(self) -> bool:
        """Leading, not halted, and with a policy that may act: else even the end of what was begun is a person's."""
        house = self.parts.house
        return self.parts.leadership.leads() and not house.halted() and Mode.ACT in house.modes.values()

    def deliver(self) -> None:
        """Try the messages that are due."""
        self.parts.announcer.deliver(self.clock.now())

    def prune(self) -> None:
        """Delete what is past its retention."""
        self.parts.store.prune(self.clock.now())

    def status(self) -> Status:
        """What the API tells about this process."""
        return Status(
            ready=self.ready,
            reason=self.reason,
            leader=self.parts.leadership.leads(),
            last_cycle_at=self.cycle_at,
            last_cycle_s=self.cycle_s,
            halted=self.parts.kill.engaged(),
        )


def _survive(name: str, tick: Callable[[], None], busy: set[str]) -> Callable[[], None]:
    """The wall around one scheduled job: logs its first failure and its recovery, once each. In `busy` while it runs."""
    failing = False

    def run() -> None:
        nonlocal failing
        busy.add(name)
        try:
            tick()
        except Exception as error:
            if not failing or not isinstance(error, Temporary | Permanent):
                log.error("job fails", job=name, error=f"{type(error).__name__}: {error}", exc_info=not failing)
            failing = True
        else:
            if failing:
                log.info("job recovered", job=name)
            failing = False
        finally:
            busy.discard(name)

    return run


def bind(host: str, port: int, where: str) -> socket.socket:
    """A listening socket, taken before anything else starts. ConfigError names the key where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        key = "listen.host" if isinstance(error, socket.gaierror) or error.errno == EADDRNOTAVAIL else "listen.port"
        raise ConfigError(where, key, f"expected a free address, cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def serve(settings: Settings, where: str, ready: Callable[[str, str], None]) -> int:
    """Run until SIGTERM or SIGINT, then drain. Everything that can be refused is refused before anything is started.

    `ready` is told the URL after the first cycle, and the reason if that one could not be completed.
    """
    configure()
    check_bind(settings, where)
    listener = bind(settings.listen.host, settings.listen.port, where)
    clock = SystemClock()
    parts = assemble(settings, where, clock)
    daemon = Daemon(settings, parts, clock)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: _halt(parts.kill))
    try:
        with _listening(daemon, listener):
            jobs = daemon.jobs()
            for name in ("lease", "scrape", "cycle"):
                jobs[name][0]()
            ready(_url(listener), "" if daemon.ready else daemon.reason)
            with ticking(jobs, daemon.busy, clock) as wake:
                wait(stop, clock, wake, lambda: parts.leadership.epoch)
    finally:
        _close(parts, daemon.busy)
    return 0


def _close(parts: Parts, busy: set[str]) -> None:
    """Let go of everything; where a job does not end, leave without the joins of Python's exit, which would wait for it."""
    stuck = sorted(busy - BESIDE)
    if stuck:  # it may hold the backend, and its effect be under way: the lease must lapse, not be given up
        log.error("not drained", stuck=stuck)
        parts.refresher.close()
        os._exit(1)
    parts.close()
    log.info("drained", left=sorted(busy))
    if busy:
        os._exit(0)


def _halt(kill: KillSwitch) -> None:
    """The kill signal: effects stop even where a full disk keeps the file from being written."""
    try:
        kill.set(True)
    except OSError as error:
        log.error("kill switch is engaged, but not over a restart", path=str(kill.path), error=str(error))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _listening(daemon: Daemon, listener: socket.socket) -> Iterator[None]:
    """Serve the API from a thread on a socket that is already ours."""
    import uvicorn

    app = create_app(daemon.parts.store, daemon.settings, daemon.clock, daemon.status, daemon.parts.kill.set)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(DRAIN_S)
