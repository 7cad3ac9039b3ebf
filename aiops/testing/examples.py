"""Small values of the contract to test with, and how to say that something must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from aiops.action import (
    Admission,
    Decision,
    Deny,
    Order,
    OrderKind,
    ScaleService,
)
from aiops.model import (
    Cause,
    Cluster,
    Finding,
    Forecast,
    HoldState,
    Reservation,
    SeriesKey,
)
from aiops.ports import Message
from aiops.snapshot import Snapshot

T0 = 1_700_000_000.0
DAY_S = 86400.0


def gpu(index: int) -> SeriesKey:
    """A key to store samples under."""
    return SeriesKey.of("gpu_power_watts", gpu=str(index), node=f"n{index // 8}")


def snapshot(id: str, epoch: int, now: float = T0) -> Snapshot:
    """A small snapshot."""
    return Snapshot(id=id, now=now, epoch=epoch, cluster=Cluster(at=now, backend="fake"))


def admission(id: str, at: float = T0, denied: Deny | None = None) -> Admission:
    """A permission, or a refusal, to scale a service."""
    action = ScaleService(service="web", uid="u", version="1", replicas=3, was=2)
    return Admission(
        id=id, at=at, decision=Decision(policy="prescale", action=action, reason="load", within_s=60.0), denied=denied
    )


def order(id: str, kind: OrderKind, target: str = "", until: float | None = None, at: float = T0) -> Order:
    """An operator's order."""
    return Order(id=id, at=at, by="ann", kind=kind, target=target, until=until)


def message(id: str, group: str = "g", receiver: str = "r", next_at: float = 0.0) -> Message:
    """A message for the outbox."""
    return Message(id=id, group=group, receiver=receiver, body=b"\x00{}", created_at=T0, next_at=next_at)


def forecast(target: str, made_at: float, value: float = 1.0) -> Forecast:
    """A forecast of one step and two quantiles."""
    values = np.array([[value], [value + 1]])
    return Forecast(
        target=target, made_at=made_at, times=np.array([made_at + 60]), quantiles=np.array([0.5, 0.9]), values=values, model="m"
    )


def finding(id: str, at: float, score: float = 1.0) -> Finding:
    """A finding on some volume."""
    return Finding(id=id, at=at, cause=Cause.IO_STALL, subject="volume/scratch", score=score, confidence=0.9)


def hold(name: str, expires_at: float = T0 + 30, state: HoldState = HoldState.HELD) -> Reservation:
    """A reservation."""
    return Reservation(
        name=name, owner="o", state=state, fence=1, created_at=T0, expires_at=expires_at, hard_cap_at=T0 + 300, gpus=8
    )


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    """The block must raise `error`."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")
