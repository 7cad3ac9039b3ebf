"""From the state to the contract's `Cluster`: whole, sorted, nothing invented."""

from __future__ import annotations

from aiops.backends.local import machine
from aiops.backends.local.declare import ClusterSpec, JobSpec, ServiceSpec, load_key
from aiops.backends.local.state import JobRecord, Phase, ServiceRecord, State, Unit
from aiops.model import Cluster, Job, Knob, Link, Node, SeriesKey, Service, TaskClass


def cluster(spec: ClusterSpec, state: State, seen: tuple[tuple[Node, ...], tuple[Link, ...]], at: float) -> Cluster:
    """Everything that this machine is, as of `at`; `seen` are nodes and links as just read."""
    nodes, links = seen
    pool = nodes[0].pool if nodes else ""
    declared = ((name, row) for name, row in sorted(spec.services.items()) if name in state.services)
    return Cluster(
        at=at,
        backend="local",
        nodes=nodes,
        jobs=tuple(_job(job, spec.jobs.get(job.id), state) for _, job in sorted(state.jobs.items())),
        services=tuple(_service(name, row, state, pool) for name, row in declared),
        pools=machine.pools(nodes),
        queues=machine.queues(spec, nodes),
        links=links,
        volumes=machine.volumes(spec),
        holds=tuple(sorted(state.holds)),
    )


def _service(name: str, spec: ServiceSpec, state: State, pool: str) -> Service:
    record = state.services[name]
    units = list(state.owned(f"service/{name}"))
    return Service(
        name=name,
        uid=record.uid,
        version=str(record.version),
        pool=pool,
        replicas=record.replicas,
        ready=sum(unit.ready for unit in units),
        min_replicas=spec.min,
        max_replicas=spec.max,
        load=load_key(name, spec),
        target=spec.target,
        gpus_per_replica=spec.gpus,
        start_s=record.start_s,
        tenant=spec.tenant,
        priority=spec.priority,
        protected=spec.protected,
        reason=_reason(record, units),
        latency=SeriesKey.of("service_request_seconds", service=name) if spec.metrics else None,
        slo_s=spec.slo,
        nodes=tuple(sorted({node for unit in units for node in unit.nodes})),
    )


def _reason(record: ServiceRecord, units: list[Unit]) -> str:
    short = sum(unit.phase is not Phase.STOPPING for unit in units) < record.replicas
    looping = record.crashes >= 3 and (short or not all(unit.ready for unit in units))
    return f"crash loop: {record.reason}" if looping else record.reason


def _job(job: JobRecord, spec: JobSpec | None, state: State) -> Job:
    unit = state.units.get(job.unit)
    return Job(
        id=job.id,
        run_id=job.run_id,
        name=job.id,
        queue=spec.queue if spec else "",
        state=job.state,
        gpus=spec.gpus if spec else len(unit.gpus) if unit else 0,
        submitted_at=job.submitted_at,
        tenant=spec.tenant if spec else "",
        priority=spec.priority if spec else 0,
        gpu_type=spec.gpu_type if spec else "",
        cpu_cores=spec.cpu_cores if spec else 0.0,
        memory_bytes=spec.memory if spec else 0.0,
        nodes=unit.nodes if unit else (),
        gpu_uuids=unit.gpus if unit else (),
        started_at=job.started_at,
        checkpoint=job.checkpoint,
        checkpoint_requested_at=job.requested_at,
        checkpoint_s=spec.checkpoint_s if spec else None,
        restart_s=spec.restart_s if spec else None,
        preemptible=bool(spec and spec.preemptible),
        protected=spec.protected if spec else True,  # no longer declared: hands off
        gang=spec.gang if spec else "",
        task_class=spec.task_class if spec else TaskClass.UNKNOWN,
        evictions=job.evictions,
        lender=job.lender,
        runtime_s=spec.runtime if spec else None,
        compresses=bool(spec and spec.compresses),
        volumes=spec.volumes if spec else (),
        reason=job.reason,
        knobs=_knobs(job, spec),
    )


def _knobs(job: JobRecord, spec: JobSpec | None) -> tuple[Knob, ...]:
    declared = spec.knobs.items() if spec else ()
    return tuple(Knob(name=n, value=job.knobs.get(n, k.value), least=k.min, most=k.max) for n, k in sorted(declared))
