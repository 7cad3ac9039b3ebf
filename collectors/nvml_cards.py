"""One open NVML session: which cards and MIG slices there are, and how to ask them without being stopped by one answer.

Everything kept here is a cache that may be lost: handles, which card does not support what, the last GPM sample, and who is
listened to. NVML's errors are translated here and nowhere else.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiops.errors import NoData, Temporary
from aiops.model import Labels, SeriesKey
from collectors.nvml_gpm import between, sampled

# The answers of one card that will be the same next time.
_NEVER = ("NotSupported", "FunctionNotFound", "InvalidArgument", "NoPermission", "ArgumentVersionMismatch", "Deprecated")
# A card that needs a reset takes no work, as one that fell off the bus.
_GONE = ("GpuIsLost", "ResetRequired")
# The driver was unloaded or replaced underneath us.
_BROKEN = ("Uninitialized", "DriverNotLoaded", "LibRmVersionMismatch")
# With a card lost, NVML is opened anew about once a minute (at 10 s): only a new session sees a card that came back.
_REOPEN_AFTER = 6
_MAX_EVENTS = 1000
_ALL_LINKS = 36


class Lost(Exception):
    """One card does not answer any more; the others do."""


@dataclass(slots=True)
class Card:
    """A GPU, or a MIG slice of one (`parent`, `instance`). `handle` is None where the card was lost before we saw it;
    `heard` where its events are listened to.
    """

    index: int
    uuid: str
    handle: Any
    facts: Labels = ()
    parent: Any = None
    instance: int | None = None
    heard: bool = False
    unsupported: set[int | str] = field(default_factory=set)

    @property
    def is_mig(self) -> bool:
        """True for a slice."""
        return self.instance is not None


@dataclass(slots=True)
class Xids:
    """XID events since this process began to listen; kept over sessions, for they explain why a card was lost."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    last: dict[str, int] = field(default_factory=dict)

    def add(self, uuid: str, xid: int) -> None:
        """One more event."""
        self.counts[uuid, xid] += 1
        self.last[uuid] = xid

    def samples(self, uuid: str, labels: Labels) -> Iterator[tuple[SeriesKey, float]]:
        """Events of a card by code, and the latest code."""
        for (card, xid), count in sorted(self.counts.items()):
            if card == uuid:
                yield SeriesKey("gpu_xid_errors_total", (*labels, ("xid", str(xid)))), float(count)
        if uuid in self.last:
            yield SeriesKey("gpu_last_xid", labels), float(self.last[uuid])


def opened() -> Session:
    """A new session. NoData without library or driver, Temporary for what may pass."""
    try:
        import pynvml
    except ImportError:
        raise NoData("the nvidia-ml-py package is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = _kind(pynvml, error) in ("LibraryNotFound", "DriverNotLoaded", "NotFound")
        raise (NoData if absent else Temporary)(f"NVML: {error}") from None
    return Session(pynvml)


def _kind(nvml: Any, error: Any) -> str:
    """The name of an NVML error as its class has it: GpuIsLost, NotSupported, ..."""
    return type(error).__name__.removeprefix("NVMLError_")


def is_lost(nvml: Any, error: Any) -> bool:
    """True where the error means that this card, not the whole driver, is gone."""
    return _kind(nvml, error) in _GONE


class Session:
    """NVML between init and shutdown."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._cards: list[Card] | None = None
        self._slices: dict[str, Card] = {}
        self._samples: dict[str, Any] = {}
        self._events: Any = None
        self._rounds_with_loss = 0
        self._lost_now = False

    @property
    def stale(self) -> bool:
        """True where only a new session could show a lost card again."""
        self._rounds_with_loss = self._rounds_with_loss + 1 if self._lost_now else 0
        self._lost_now = False
        return self._rounds_with_loss >= _REOPEN_AFTER

    def lost(self, card: Card) -> None:
        """Remember that a card did not answer in this round."""
        self._lost_now = True

    def close(self) -> None:
        """Shut NVML down; errors in doing so mean that it is down already."""
        try:
            self.nvml.nvmlShutdown()
        except self.nvml.NVMLError:
            return

    # -- cards ---------------------------------------------------------------------------------------------------------

    def cards(self) -> list[Card]:
        """GPUs in index order, each followed by its MIG slices as they are now."""
        if self._cards is None or len(self._cards) != self.nvml.nvmlDeviceGetCount():
            self._cards = [self._found(index) for index in range(self.nvml.nvmlDeviceGetCount())]
        self._cards = [self._found(card.index) if card.handle is None else card for card in self._cards]
        self._listen()
        return [each for card in self._cards for each in (card, *self._slices_of(card))]

    def _found(self, index: int) -> Card:
        try:
            handle = self.nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = self.nvml.nvmlDeviceGetUUID(handle)
        except self.nvml.NVMLError as error:
            if is_lost(self.nvml, error):
                return Card(index, "", None)
            raise
        return Card(index, uuid, handle, self._facts(handle))

    def _facts(self, handle: Any) -> Labels:
        calls: dict[str, Callable[[], Any]] = {
            "model": lambda: self.nvml.nvmlDeviceGetName(handle),
            "driver": self.nvml.nvmlSystemGetDriverVersion,
            "pci_bus_id": lambda: self.nvml.nvmlDeviceGetPciInfo(handle).busId,
        }
        facts = []
        for name, call in calls.items():
            try:
                facts.append((name, _text(call())))
            except self.nvml.NVMLError:
                continue
        return tuple(facts)

    def _slices_of(self, card: Card) -> Iterator[Card]:
        try:
            if card.handle is None or "mig" in card.unsupported or not self.nvml.nvmlDeviceGetMigMode(card.handle)[0]:
                return
            most = self.nvml.nvmlDeviceGetMaxMigDeviceCount(card.handle)
        except self.nvml.NVMLError as error:
            if _kind(self.nvml, error) in _NEVER:
                card.unsupported.add("mig")
            return
        for position in range(most):
            try:
                yield self._slice(card, self.nvml.nvmlDeviceGetMigDeviceHandleByIndex(card.handle, position))
            except self.nvml.NVMLError:  # NotFound: positions have gaps
                continue

    def _slice(self, card: Card, handle: Any) -> Card:
        uuid = self.nvml.nvmlDeviceGetUUID(handle)
        instance = self.nvml.nvmlDeviceGetGpuInstanceId(handle)
        if uuid not in self._slices:
            facts = dict(self._facts(handle))
            # A slice is named after its card and profile: "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
            facts["mig_profile"] = facts.get("model", "").rpartition("MIG ")[2]
            facts["gpu_instance"] = str(instance)
            facts["compute_instance"] = str(self.nvml.nvmlDeviceGetComputeInstanceId(handle))
            self._slices[uuid] = Card(card.index, uuid, handle, tuple(facts.items()), card.handle, instance)
        self._slices[uuid].handle = handle
        return self._slices[uuid]

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, card: Card, row: int | str, read: Callable[[Any, Any], Sequence[Any]]) -> Sequence[Any]:
        """The answer, or nothing where the card has none. Raises Lost for a lost card, NVMLError for a broken driver."""
        if row in card.unsupported:
            return ()
        try:
            return read(self.nvml, card.handle)
        except self.nvml.NVMLError as error:
            kind = _kind(self.nvml, error)
            if kind in _GONE:
                raise Lost from None
            if kind in _BROKEN:
                raise
            if kind in _NEVER:
                card.unsupported.add(row)
            return ()

    def processes(self, card: Card) -> Iterator[tuple[int, float]]:
        """(pid, bytes) of compute processes; those whose memory the driver does not tell are left out."""
        for process in self.ask(card, "processes", lambda n, h: n.nvmlDeviceGetComputeRunningProcesses(h)):
            if process.usedGpuMemory is not None:
                yield process.pid, float(process.usedGpuMemory)

    def links(self, card: Card) -> Iterator[tuple[str, Labels, float]]:
        """KiB sent and received per NVLink since the driver was loaded (field values 138 and 139, scope: the link)."""
        if card.is_mig:
            return
        counts = self.ask(card, "nvlink_count", lambda n, h: [f.value.uiVal for f in _good(n, h, [91])])
        ids = [(field, link) for link in range(min(counts[0], _ALL_LINKS) if counts else 0) for field in (138, 139)]
        if not ids:
            card.unsupported.add("nvlink_count")
            return
        for value in self.ask(card, "nvlinks", lambda n, h: _good(n, h, ids)):
            direction = "transmit" if value.fieldId == 138 else "receive"
            labels = (("direction", direction), ("link", str(value.scopeId)))
            yield "gpu_nvlink_bytes_total", labels, float(value.value.ullVal)

    def activity(self, card: Card) -> Iterator[tuple[str, Labels, float]]:
        """Shares and rates between the last scrape and this one, where the card supports GPM (Hopper and later)."""
        where = card.parent if card.is_mig else card.handle
        new = self.ask(card, "gpm", lambda nvml, _: [sampled(nvml, where, card.instance)])
        old = self._samples.get(card.uuid)
        if not new:
            return
        self._samples[card.uuid] = new[0]
        if old is None:
            return
        try:
            yield from self.ask(card, "gpm_metrics", lambda nvml, _: between(nvml, old, new[0]))
        finally:
            self.nvml.nvmlGpmSampleFree(old)

    # -- XID events ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Register every new card with one event set; a card or driver that has no events is left out."""
        try:
            self._events = self._events or self.nvml.nvmlEventSetCreate()
        except self.nvml.NVMLError:
            return
        for card in self._cards or ():
            if card.handle is not None and not card.heard:
                card.heard = True
                with suppress(Lost):  # its own readings will say so
                    self.ask(card, "events", self._register)

    def _register(self, nvml: Any, handle: Any) -> Sequence[Any]:
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
        return ()

    def count_into(self, xids: Xids) -> None:
        """Take the XID events that wait, without waiting for one."""
        names = {_address(card.handle): card.uuid for card in self._cards or () if card.handle is not None}
        for _ in range(_MAX_EVENTS if self._events is not None else 0):
            try:
                event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
            except self.nvml.NVMLError:  # Timeout: there is none
                return
            uuid = names.get(_address(event.device))
            if uuid is not None and event.eventType & self.nvml.nvmlEventTypeXidCriticalError:
                xids.add(uuid, event.eventData)


def _good(nvml: Any, handle: Any, ids: Sequence[Any]) -> list[Any]:
    return [value for value in nvml.nvmlDeviceGetFieldValues(handle, ids) if value.nvmlReturn == 0]


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
