"""Brings the processes towards the state: look, settle, plan, save, then act on what was saved. Called once per cycle.

Nothing here waits: whatever is not finished is taken up by the next call, from disk, by this daemon or the next one.
"""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aiops import codec
from aiops.backends import checkpoint, disk
from aiops.backends.local import drain, endpoints, holds, jobs, machine, services, steady
from aiops.backends.local.bell import Bell, ring
from aiops.backends.local.cgroups import Cgroups
from aiops.backends.local.declare import Health, LocalSettings, Run
from aiops.backends.local.health import Checks
from aiops.backends.local.imposing import Imposed, Imposer
from aiops.backends.local.process import stopped
from aiops.backends.local.shaping import Shaper
from aiops.backends.local.spawn import Order, Spawner
from aiops.backends.local.state import Book, JobRecord, Phase, State, Unit
from aiops.errors import Unreadable
from aiops.model import JobState, Node


class Supervisor:
    """Owns the processes of one state directory. Not thread-safe: its owner holds a lock."""

    def __init__(self, settings: LocalSettings, failpoint: Callable[[str], None], elapsed: Callable[[], float]) -> None:
        self.settings = settings
        self._elapsed = elapsed
        self.book = Book(settings.state_dir)
        self.spawner = Spawner(settings.state_dir, failpoint)
        self.cgroups = Cgroups.detect(settings.cgroups == "auto")
        self.shaper = Shaper.detect(settings.cgroups == "auto" and any(link.kind == "nic" for link in settings.links.values()))
        self._imposer = Imposer(settings.links, (self.cgroups, self.shaper), self._group)
        self.proofs = checkpoint.Proofs()
        self._checks = Checks()
        self._endpoints = endpoints.Endpoints(settings.state_dir / "endpoints.json")
        self._failpoint = failpoint
        self._signalled: set[str] = set()

    def step(self, now: float) -> tuple[Node, ...]:
        """One pass; the nodes it saw. Raises Unreadable where state, /proc or NVML cannot be read or written."""
        self.book.open()
        try:
            self.keep_time(now)
            return self._step(now)
        except OSError as error:
            raise Unreadable(f"local backend: {error}") from None

    def _step(self, now: float) -> tuple[Node, ...]:
        before = self.book.state
        nodes = machine.nodes(self.settings, before)
        state, gone = self._look(before)
        seen = services.Seen(gone=gone, healthy=self._checks.ask(self._to_check(state)))
        state = self._settled(state, seen, now)
        state = self._planned(state, nodes, now)
        fresh = [unit for key, unit in state.units.items() if key not in before.units]
        self._failpoint("before_save")
        self.book.put(state)
        self._failpoint("after_save")
        for unit in fresh:
            self._spawn(unit)
        for unit_id in gone:
            self._signalled.discard(unit_id)
            self.spawner.forget(unit_id)
            self._imposer.leave(unit_id)
        self.spawner.reap()
        self.enforce(now)
        self._imposer.measure(self.book.state, self._elapsed())
        return machine.renewed(nodes, self.book.state)

    def keep_time(self, now: float) -> None:
        """Move deadlines along where the wall clock was stepped; before anything is judged by `now`."""
        state = steady.corrected(self.book.state, now, self._elapsed(), self.spawner.boot)
        if state is not self.book.state:
            self.book.put(state)

    def _look(self, state: State) -> tuple[State, dict[str, int | None]]:
        """The state with identities as claimed on disk, and how each unit that is gone ended."""
        gone: dict[str, int | None] = {}
        for unit in state.units.values():
            adopted = self.spawner.adopt(unit)
            if adopted is None:
                gone[unit.id] = None
                continue
            state = state.with_unit(adopted)
            if adopted.identity is not None and not self.spawner.running(adopted) and not self.spawner.ending(unit.id):
                gone[unit.id] = self.spawner.exit_code(unit.id)
        return state, gone

    def _to_check(self, state: State) -> dict[str, tuple[Health, int]]:
        out: dict[str, tuple[Health, int]] = {}
        for name, spec in self.settings.services.items():
            if spec.health is not None:
                running = (unit for unit in state.owned(f"service/{name}") if unit.phase is Phase.RUNNING)
                out.update({unit.id: (spec.health, unit.port) for unit in running})
        return out

    def _settled(self, state: State, seen: services.Seen, now: float) -> State:
        state = services.declare(state, self.settings.services, _uid)
        state = jobs.declare(state, self.settings.jobs, _uid, now)
        for name, spec in self.settings.services.items():
            state = services.settle(state, name, spec, seen, now)
        state = jobs.settle(state, seen.gone, (frozenset(self._signalled), self.spawner.boot), now)
        known = {f"service/{name}" for name in self.settings.services}
        for unit in list(state.units.values()):
            if unit.id in seen.gone and unit.owner not in known:
                state = state.without_unit(unit.id)
        return self._proven(state, now)

    def _proven(self, state: State, now: float) -> State:
        """With each live run's newest checkpoint proof."""
        for job in list(state.jobs.values()):
            if job.unit and (proof := self.proofs.look(self.control(job), job.run_id, now)):
                waiting = None if proof.id == job.requested else job.requested_at
                state = state.with_job(replace(job, checkpoint=proof, requested_at=waiting))
        return state

    def _planned(self, state: State, nodes: tuple[Node, ...], now: float) -> State:
        state = holds.step(state, now)
        state = drain.step(state, self.settings.jobs, nodes, self._speaking(state), now)
        for name, spec in self.settings.services.items():
            state = services.plan(state, name, spec, nodes, now)
        state = jobs.plan(state, self.settings, nodes, now)
        for unit in list(state.units.values()):
            if unit.phase is Phase.SPAWNING and not unit.port and unit.owner.startswith("service/"):
                state = state.with_unit(replace(unit, port=self._port(state)))
        return state

    def _speaking(self, state: State) -> frozenset[str]:
        """Jobs whose present run takes checkpoint requests: it said so itself, or its declaration names a signal."""
        live = [job for job in state.jobs.values() if job.unit and job.id in self.settings.jobs]
        return frozenset(
            job.id
            for job in live
            if self.settings.jobs[job.id].checkpoint_signal or checkpoint.speaks(self.control(job), job.run_id)
        )

    def _port(self, state: State) -> int:
        low, high = self.settings.ports
        used = {unit.port for unit in state.units.values()}
        for port in range(low, high + 1):
            if port not in used and _free(port):
                return port
        raise Unreadable(f"no free port in {low}-{high}")

    def control(self, job: JobRecord) -> Path:
        """Directory through which the backend and the job's present run talk."""
        return self.spawner.directory(job.unit) / "control"

    def _spawn(self, unit: Unit) -> None:
        kind, _, name = unit.owner.partition("/")
        spec: Run = self.settings.services[name] if kind == "service" else self.settings.jobs[name]
        env = {**spec.env, "CUDA_VISIBLE_DEVICES": ",".join(unit.gpus)}
        if kind == "service":
            env["PORT"] = str(unit.port)
        else:
            control = self.spawner.directory(unit.id) / "control"
            control.mkdir(parents=True, exist_ok=True, mode=0o700)
            job = self.book.state.jobs[name]
            env |= {"AIOPS_JOB_ID": job.id, "AIOPS_RUN_ID": job.run_id, "AIOPS_CONTROL_DIR": str(control)}
            env.setdefault("AIOPS_TELEMETRY", str(self.telemetry()))
        group = self._group(unit.id)
        groups = self.cgroups.create(group, unit.cpu_cores, unit.memory_bytes) + self.shaper.join(group, unit)
        cwd = spec.cwd or Path("/")
        self.spawner.spawn(unit, Order(argv=spec.command, cwd=cwd, env=env, cgroups=tuple(dict.fromkeys(groups))))

    def telemetry(self) -> Path:
        """Directory where jobs leave their telemetry for the collector `jobs`."""
        place = self.settings.state_dir / "telemetry"
        place.mkdir(exist_ok=True, mode=0o700)
        return place

    def _group(self, unit: str) -> str:
        return f"{codec.digest(str(self.settings.state_dir))[:8]}-{unit}"

    def enforce(self, now: float) -> None:
        """Act on the saved state: signals, requests, knobs, caps. Everything here may be repeated without harm."""
        state = self.book.state
        for unit in state.units.values():
            if unit.phase is Phase.STOPPING:
                self._stop(unit, now)
        for job in state.jobs.values():
            run = state.units.get(job.unit)
            if run is not None and run.phase is Phase.RUNNING:
                self._guide(job, run)
        for name in self.settings.links:
            self.impose(name)
        self._endpoints.write(state, self.settings.services, now)

    def _stop(self, unit: Unit, now: float) -> None:
        if unit.term_at is not None and now >= unit.term_at and unit.id not in self._signalled:
            if self.spawner.signal(unit, signal.SIGTERM):
                self._signalled.add(unit.id)
            self.spawner.signal(unit, signal.SIGCONT)  # a stopped process cannot hear SIGTERM
        if unit.kill_at is not None and now >= unit.kill_at:
            self.spawner.signal(unit, signal.SIGKILL)

    def _guide(self, job: JobRecord, unit: Unit) -> None:
        control = self.control(job)
        if job.requested and job.requested_at is not None:
            spec = self.settings.jobs.get(job.id)
            bell = Bell(leader=unit.identity, declared=spec.checkpoint_signal if spec else "")
            if checkpoint.ask(control, job.requested, job.run_id, job.requested_at):
                ring(control, job.run_id, bell)
        if job.knobs and disk.read(control / "knobs.json") != dict(job.knobs):
            disk.write(control / "knobs.json", job.knobs)
        if unit.identity is None:
            return
        is_stopped = stopped(unit.identity)
        if job.state is JobState.SUSPENDED and not is_stopped:
            self.spawner.signal(unit, signal.SIGSTOP)
        elif job.state is JobState.RUNNING and is_stopped:
            self.spawner.signal(unit, signal.SIGCONT)

    def impose(self, link: str) -> Imposed:
        """Impose what is wanted on a declared link; owners for whom it really is."""
        return self._imposer.impose(link, self.book.state)

    def enforced_links(self) -> dict[str, str]:
        """Links on which caps are imposed by the kernel, each with what is only accounted there."""
        return self._imposer.enforced()

    def used(self, link: str, owner: str) -> float | None:
        """Bytes per second of a link that an owner had over the last minute; None where nobody counts them."""
        return self._imposer.used(self.book.state, link, owner)

    def stand_down(self) -> None:
        """Leave the processes to another supervisor; what was signalled is its business then."""
        self._signalled.clear()
        self.spawner.reap()
        self.book.close()

    def close(self) -> None:
        """Let go; processes go on."""
        self._checks.close()
        self._imposer.close()
        self.proofs.close()
        self.book.close()


def _uid() -> str:
    return secrets.token_hex(4)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
