"""NVIDIA GPUs of this host through NVML. Knows nothing of stores or schedules; no threads, no sleeping.

The table is the file: one row per NVML call, with the catalogue names that it fills and the factor from the vendor's unit
to ours. Any card may lack any row (a passively cooled one its fan, a MIG parent its utilisation): "not supported" is
remembered per card and row, and not asked again. A missing library or driver is NoData: a CPU node is not an error. A GPU
that fell off the bus is `gpu_up 0`, for that is the fact a policy needs; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiops.errors import NoData, Temporary
from aiops.model import Batch, Labels, SeriesKey
from aiops.settings import Section
from collectors.nvml_cards import Card, Lost, Session, Xids, opened
from collectors.section import parse
from collectors.sentinels import is_blank, sane

Pairs = Iterator[tuple[SeriesKey, float]]
Outputs = tuple[tuple[str, Labels], ...]
Read = Callable[[Any, Any], Sequence[float]]

KIB, MHZ, MILLI, PERCENT, NANO = 1024.0, 1e6, 1e-3, 1e-2, 1e-9


@dataclass(frozen=True, slots=True)
class Row:
    """One NVML call: `read(nvml, handle)` answers one vendor value per output; NaN is a value that is not there."""

    outputs: Outputs
    read: Read
    factor: float = 1.0
    on_mig: bool = False


def _of(metric: str, label: str = "", *values: str) -> Outputs:
    return tuple((metric, ((label, value),)) for value in values) or ((metric, ()),)


def _fields(*ids: int) -> Read:
    """Field values by id; each has its own return code and type (0 double, 1 uint, 2 ulong, 3 ullong, 4 sllong, 5 int)."""
    return lambda nvml, handle: [_field(value) for value in nvml.nvmlDeviceGetFieldValues(handle, list(ids))]


def _field(value: Any) -> float:
    if value.nvmlReturn != 0:
        return float("nan")
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    return float(getattr(value.value, members[value.valueType])) if value.valueType < len(members) else float("nan")


# NVML's reasons for clocks below the maximum (nvml.h, nvmlClocksEventReason*); "idle" (bit 0) is no throttling.
REASONS = {
    "applications_clocks": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
    "display_clock": 0x100,
    "board_limit": 0x200,
    "reliability": 0x400,
}
# nvmlPerfPolicyType_t: which limit held the clocks down, with the time that it did so.
POLICIES = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "low_utilization": 4, "reliability": 5}


def _reasons(nvml: Any, handle: Any) -> Sequence[float]:
    bits = _first(nvml, handle, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return [float(bool(bits & bit)) for bit in REASONS.values()]


def _temperature(nvml: Any, handle: Any) -> Sequence[float]:
    return [_first(nvml, handle, "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)]


def _first(nvml: Any, handle: Any, new: str, old: str, *arguments: Any) -> Any:
    """The renamed call where the driver has it, else the one that older drivers know."""
    try:
        return getattr(nvml, new)(handle, *arguments)
    except (AttributeError, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
        return getattr(nvml, old)(handle, *arguments)


def _memory(nvml: Any, handle: Any) -> Sequence[float]:
    """Version 2 tells what the driver keeps for itself; version 1 counts that as used."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return [memory.used, memory.total, memory.free, getattr(memory, "reserved", float("nan"))]


def _utilization(nvml: Any, handle: Any) -> Sequence[float]:
    return [nvml.nvmlDeviceGetUtilizationRates(handle).gpu]


def _ecc(kind: int, scope: int) -> Read:
    return lambda nvml, handle: [nvml.nvmlDeviceGetTotalEccErrors(handle, kind, scope)]


def _violation(policy: int) -> Read:
    return lambda nvml, handle: [nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime]


def _clock(domain: int) -> Read:
    return lambda nvml, handle: [nvml.nvmlDeviceGetClockInfo(handle, domain)]


ROWS: tuple[Row, ...] = (
    Row(tuple((f"gpu_memory_{part}_bytes", ()) for part in ("used", "total", "free", "reserved")), _memory, on_mig=True),
    Row(_of("gpu_utilization_ratio"), _utilization, PERCENT),
    Row(_of("gpu_encoder_utilization_ratio"), lambda n, h: n.nvmlDeviceGetEncoderUtilization(h)[:1], PERCENT),
    Row(_of("gpu_decoder_utilization_ratio"), lambda n, h: n.nvmlDeviceGetDecoderUtilization(h)[:1], PERCENT),
    Row(_of("gpu_power_watts"), lambda n, h: [n.nvmlDeviceGetPowerUsage(h)], MILLI),
    Row(_of("gpu_power_limit_watts"), lambda n, h: [n.nvmlDeviceGetEnforcedPowerLimit(h)], MILLI),
    Row(_of("gpu_energy_joules_total"), lambda n, h: [n.nvmlDeviceGetTotalEnergyConsumption(h)], MILLI),
    Row(_of("gpu_temperature_celsius", "sensor", "gpu"), _temperature),
    Row(_of("gpu_temperature_celsius", "sensor", "memory"), _fields(82)),  # NVML_FI_DEV_MEMORY_TEMP
    Row(_of("gpu_clock_hertz", "domain", "sm"), _clock(1), MHZ),
    Row(_of("gpu_clock_hertz", "domain", "memory"), _clock(2), MHZ),
    Row(_of("gpu_fan_speed_ratio"), lambda n, h: [n.nvmlDeviceGetFanSpeed(h)], PERCENT),
    Row(_of("gpu_throttle_active", "reason", *REASONS), _reasons),
    *(Row(_of("gpu_throttle_seconds_total", "reason", name), _violation(code), NANO) for name, code in POLICIES.items()),
    *(
        Row((("gpu_ecc_errors_total", (("kind", kind), ("scope", scope))),), _ecc(i, j))
        for i, kind in enumerate(("corrected", "uncorrected"))
        for j, scope in enumerate(("volatile", "aggregate"))
    ),
    Row(
        (
            *_of("gpu_remapped_rows_total", "kind", "corrected", "uncorrected"),
            ("gpu_row_remap_pending", ()),
            ("gpu_row_remap_failed", ()),
        ),
        lambda n, h: n.nvmlDeviceGetRemappedRows(h),
    ),
    Row(_of("gpu_pcie_replays_total"), lambda n, h: [n.nvmlDeviceGetPcieReplayCounter(h)]),
    # NVML_FI_DEV_PCIE_COUNT_{TX,RX}_BYTES
    Row(_of("gpu_pcie_bytes_total", "direction", "transmit", "receive"), _fields(197, 198)),
    # NVML_FI_DEV_NVLINK_{CRC_FLIT,CRC_DATA,REPLAY,RECOVERY}_ERROR_COUNT_TOTAL
    Row(_of("gpu_nvlink_errors_total", "kind", "crc_flit", "crc_data", "replay", "recovery"), _fields(38, 45, 52, 59)),
)


class NvmlOptions(Section):
    """Whether to list device memory per process, and NVLink traffic per link (two series per link)."""

    processes: bool = True
    nvlinks: bool = True


class NvmlCollector:
    """All GPUs that the driver shows, and their MIG slices."""

    name: ClassVar[str] = "nvml"

    def __init__(self, options: NvmlOptions | None = None) -> None:
        self._options = options or NvmlOptions()
        self._session: Session | None = None
        self._seen: dict[int, str] = {}
        self._xids = Xids()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> NvmlCollector:
        """Keys `processes`, `nvlinks`; ConfigError otherwise."""
        return cls(parse(NvmlOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """Every row of every card. NoData without library or driver; Temporary where the driver is being replaced."""
        self._session = session = self._session or opened()
        try:
            session.count_into(self._xids)
            cards = session.cards()
            for card in cards:  # a card lost before this session began tells no uuid, but an earlier session knew it
                card.uuid = card.uuid or self._seen.get(card.index, "")
            pairs = [pair for card in cards for pair in self._card(session, card)]
        except session.nvml.NVMLError as error:
            self._close(session)
            raise Temporary(f"NVML: {error}") from None
        present = {card.index: card.uuid for card in cards if not card.is_mig and card.uuid}
        self._seen |= present
        gone = {index: uuid for index, uuid in self._seen.items() if index not in present}
        pairs += [pair for index, uuid in gone.items() for pair in _down(_labels(index, uuid))]
        if session.stale:
            self._close(session)
        if not pairs:
            raise NoData("NVML shows no GPU")
        return Batch.of(now, pairs)

    def _close(self, session: Session) -> None:
        session.close()
        self._session = None

    def _card(self, session: Session, card: Card) -> Pairs:
        labels = _labels(card.index, card.uuid)
        try:
            if card.handle is None:
                raise Lost
            read = list(self._readings(session, card, labels))
        except Lost:
            session.lost(card)
            yield from _down(labels)
            yield from self._xids.samples(card.uuid, labels)
            return
        yield SeriesKey("gpu_up", labels), 1.0
        yield SeriesKey("gpu_info", tuple(sorted((*labels, *card.facts)))), 1.0
        yield from read
        if not card.is_mig:
            yield from self._xids.samples(card.uuid, labels)
            yield from _health(health(read), labels)

    def _readings(self, session: Session, card: Card, labels: Labels) -> Pairs:
        rows = enumerate(ROWS) if not card.is_mig else ((i, row) for i, row in enumerate(ROWS) if row.on_mig)
        for i, row in rows:
            values = session.ask(card, i, row.read)
            for (metric, extra), value in zip(row.outputs, values, strict=False):
                yield from _sample(metric, (*labels, *extra), float(value), row.factor)
        for metric, extra, value in session.activity(card):
            yield from _sample(metric, (*labels, *extra), value, 1.0)
        if self._options.nvlinks:
            for metric, extra, kib in session.links(card):
                yield from _sample(metric, (*labels, *extra), kib, KIB)
        if self._options.processes:
            for pid, used in session.processes(card):
                yield from _sample("gpu_process_memory_bytes", (*labels, ("pid", str(pid))), used, 1.0)


def _labels(index: int, uuid: str) -> Labels:
    return (("gpu", str(index)), ("uuid", uuid)) if uuid else (("gpu", str(index)),)


def _sample(metric: str, labels: Labels, raw: float, factor: float) -> Pairs:
    value = None if is_blank(raw) else sane(metric, raw * factor)
    if value is not None:
        yield SeriesKey(metric, tuple(sorted(labels))), value


def _down(labels: Labels) -> Pairs:
    yield SeriesKey("gpu_up", labels), 0.0
    yield from _health("failed", labels)


STATES = ("ok", "degraded", "failed", "predicted_failure")
# Slowed by hardware protection; a software power cap is an operator's wish and no fault.
DEGRADING = frozenset(("hw_slowdown", "hw_thermal", "hw_power_brake"))


def health(read: Sequence[tuple[SeriesKey, float]]) -> str:
    """The state that a card's readings add up to: a failed row remap is final, a pending one foretells, heat degrades."""
    bad = {(key.metric, key.label("reason") or key.label("kind") or "") for key, value in read if value > 0}
    if ("gpu_row_remap_failed", "") in bad:
        return "failed"
    if ("gpu_row_remap_pending", "") in bad:
        return "predicted_failure"
    hot = any(("gpu_throttle_active", reason) in bad for reason in DEGRADING)
    broken = any(k.metric == "gpu_ecc_errors_total" and v > 0 and _uncorrected_now(k) for k, v in read)
    return "degraded" if hot or broken else "ok"


def _uncorrected_now(key: SeriesKey) -> bool:
    return key.label("kind") == "uncorrected" and key.label("scope") == "volatile"


def _health(state: str, labels: Labels) -> Pairs:
    for name in STATES:
        yield SeriesKey("gpu_health_state", tuple(sorted((*labels, ("state", name))))), float(name == state)
