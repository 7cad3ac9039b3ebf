"""What would help against a named cause, the gentlest first: proposals for people and policies, never orders. Pure.

A stall is never answered with more GPUs: they would wait as well. `action` is a kind of the action union (`aiops.action`)
where one of ours can do it, and empty where it takes a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from aiops.model import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One proposal: the kind of action, what it is done to, and what it does, in a sentence."""

    action: str
    target: str
    text: str


def remedies(cause: Cause, subject: str, chain: Sequence[str] = (), neighbour: str | None = None) -> tuple[Remedy, ...]:
    """Proposals against `cause` at `subject`; `chain` runs from the victim to the cause, as findings carry it."""
    victim = chain[0] if chain else subject
    shared = chain[-2] if len(chain) > 2 and chain[-1] == neighbour else subject
    match cause:
        case Cause.NOISY_NEIGHBOUR:
            return _against_neighbour(neighbour or subject, shared, victim)
        case Cause.IO_STALL | Cause.NET_CONTENTION:
            return (*_against_neighbour(neighbour, subject, victim), *_own_traffic(cause, subject, victim))
        case Cause.PREP_STALL | Cause.CPU_CONTENTION | Cause.MEMORY_PRESSURE:
            return _on_host(cause, subject, victim)
        case Cause.THERMAL_THROTTLE | Cause.POWER_CAP | Cause.GPU_FAULT | Cause.STRAGGLER:
            return _on_gpu(cause, subject, victim)
        case Cause.STAGE_IMBALANCE:
            return (_by_hand(subject, f"give {subject} fewer layers: the other stages wait for it"),)
        case Cause.DATA_IMBALANCE:
            return (_by_hand(subject, f"deal the samples out evenly: {subject} has more than the others"),)
        case Cause.SERVICE_FAULT:
            return (Remedy(action="rollback", target=subject, text=f"take the last change of {subject} back"),)
        case Cause.SENSOR_FAULT:
            return (_by_hand(subject, f"repair the sensor of {subject}; until then nothing may act on it"),)
        case Cause.EXHAUSTION:
            return (_by_hand(subject, f"free or enlarge {subject} before it is used up"),)
        case Cause.LOAD_CHANGE:
            return _for_load(subject)
        case Cause.ANOMALY | Cause.UNKNOWN:
            return ()
        case unreachable:
            assert_never(unreachable)


def _by_hand(target: str, text: str) -> Remedy:
    return Remedy(action="", target=target, text=text)


def _against_neighbour(neighbour: str | None, shared: str, victim: str) -> tuple[Remedy, ...]:
    """Guarantee the victim its share, slow the neighbour down, part the two."""
    reserve = Remedy(action="reserve_bandwidth", target=shared, text=f"guarantee {victim} its usual share of {shared}")
    if neighbour is None:
        return (reserve,)
    limit = Remedy(action="limit_bandwidth", target=shared, text=f"limit {neighbour} on {shared}")
    move = Remedy(action="migrate", target=neighbour, text=f"move {neighbour} to where it shares nothing with {victim}")
    return (reserve, limit, move)


def _own_traffic(cause: Cause, subject: str, victim: str) -> tuple[Remedy, ...]:
    """What the victim can do with less of the resource."""
    if cause is Cause.IO_STALL:
        deeper = Remedy(action="tune_job", target=victim, text="let its loaders read further ahead, or cache its data near it")
    else:
        deeper = Remedy(action="tune_job", target=victim, text="compress its gradients, or exchange them less often")
    move = Remedy(action="migrate", target=victim, text=f"move {victim} to where {subject} is not in its way")
    return (deeper, move)


def _on_host(cause: Cause, host: str, victim: str) -> tuple[Remedy, ...]:
    """Loader threads, and room on the host."""
    fewer = Remedy(
        action="tune_job", target=victim, text="fewer loader threads or a shorter prefetch, so that it needs less memory"
    )
    more = Remedy(action="tune_job", target=victim, text="more loader threads, if its host has idle CPUs")
    move = Remedy(action="migrate", target=victim, text=f"move {victim}, or what crowds it, off {host}")
    match cause:
        case Cause.PREP_STALL:
            return (more, move)
        case Cause.MEMORY_PRESSURE:
            return (fewer, move)
        case _:
            return (move,)


def _on_gpu(cause: Cause, gpu: str, victim: str) -> tuple[Remedy, ...]:
    """Power where it is power, else away from the card."""
    move = Remedy(action="migrate", target=victim, text=f"restart {victim} from its checkpoint without {gpu}")
    cordon = Remedy(action="cordon", target=gpu, text=f"let no new work on the node of {gpu} until it is looked at")
    match cause:
        case Cause.POWER_CAP:
            return (Remedy(action="set_power_limit", target=gpu, text=f"raise the power limit of {gpu} to what it was"),)
        case Cause.THERMAL_THROTTLE:
            cooler = Remedy(
                action="set_power_limit", target=gpu, text=f"lower the power limit of {gpu}, so that it holds its clock"
            )
            return (cooler, move, _by_hand(gpu, f"look at the cooling of {gpu}"))
        case _:
            return (cordon, move)


def _for_load(subject: str) -> tuple[Remedy, ...]:
    """More demand is no fault; only a service may want more replicas for it."""
    if not subject.startswith("service"):
        return ()
    return (
        Remedy(action="scale_service", target=subject, text=f"{subject} has more to do: scale it, if it misses its target"),
    )
