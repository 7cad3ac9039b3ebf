"""Network interfaces and InfiniBand/RoCE ports of this host, under node_exporter's names.

Interfaces come from `net/dev`, their link from sysfs; ports from `/sys/class/infiniband`, where a vendor's extra counters
(congestion notices, marked packets) lie in `hw_counters` and may be absent one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiops.errors import NoData
from aiops.model import Batch, SeriesKey
from aiops.settings import Section
from collectors.procfs import children, number, parse_number, pick, read, text
from collectors.section import parse

Pairs = Iterator[tuple[SeriesKey, float]]

INTERFACE = {
    0: "node_network_receive_bytes_total",
    1: "node_network_receive_packets_total",
    2: "node_network_receive_errs_total",
    3: "node_network_receive_drop_total",
    8: "node_network_transmit_bytes_total",
    9: "node_network_transmit_packets_total",
    10: "node_network_transmit_errs_total",
    11: "node_network_transmit_drop_total",
}
"""Column of /proc/net/dev after the name -> metric."""

# The InfiniBand architecture counts data in words of four bytes (port_rcv_data, port_xmit_data).
PORT: dict[str, tuple[str, float]] = {
    "counters/port_rcv_data": ("port_data_received_bytes_total", 4),
    "counters/port_xmit_data": ("port_data_transmitted_bytes_total", 4),
    "counters/port_rcv_packets": ("port_packets_received_total", 1),
    "counters/port_xmit_packets": ("port_packets_transmitted_total", 1),
    "counters/port_xmit_wait": ("port_transmit_wait_total", 1),
    "counters/port_rcv_errors": ("port_errors_received_total", 1),
    "counters/port_rcv_discards": ("port_discards_received_total", 1),
    "counters/port_xmit_discards": ("port_discards_transmitted_total", 1),
    "counters/symbol_error": ("symbol_error_total", 1),
    "counters/link_downed": ("link_downed_total", 1),
    "counters/link_error_recovery": ("link_error_recovery_total", 1),
    "hw_counters/np_cnp_sent": ("np_cnp_sent_total", 1),
    "hw_counters/rp_cnp_handled": ("rp_cnp_handled_total", 1),
    "hw_counters/np_ecn_marked_roce_packets": ("np_ecn_marked_roce_packets_total", 1),
    "hw_counters/out_of_sequence": ("out_of_sequence_total", 1),
    "hw_counters/packet_seq_err": ("packet_seq_err_total", 1),
    "hw_counters/local_ack_timeout_err": ("local_ack_timeout_err_total", 1),
}
PORT_STATE = {"state": "state_id", "phys_state": "physical_state_id"}
BITS_PER_S = {"Gb/sec": 1e9, "Mb/sec": 1e6}


class NetworkOptions(Section):
    """Where to look, and which interfaces to leave out: one end of each container's cable, by default."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    ignore: re.Pattern[str] = re.compile(r"(veth|cali|lxc|cilium_|tap|vnet|ifb|flannel|kube-ipvs).*")


class NetworkCollector:
    """NICs and InfiniBand ports."""

    name: ClassVar[str] = "network"

    def __init__(self, options: NetworkOptions | None = None) -> None:
        self._options = options or NetworkOptions()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> NetworkCollector:
        """Keys `proc`, `sys`, `ignore` (a regular expression for whole names); ConfigError otherwise."""
        return cls(parse(NetworkOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """Counters since boot, link state and speed. NoData where the host shows no interface at all."""
        sys = self._options.sys
        pairs = [*_interfaces(self._options), *_ports(sys / "class/infiniband")]
        if not pairs:
            raise NoData(f"{self._options.proc}: no network interface")
        return Batch.of(now, pairs)


def _interfaces(options: NetworkOptions) -> Pairs:
    for line in _net_dev(options.proc).splitlines():
        name, colon, rest = line.partition(":")
        device = name.strip()
        if not colon or options.ignore.fullmatch(device):
            continue
        labels = (("device", device),)
        for metric, value in pick(rest.split(), INTERFACE):
            yield SeriesKey(metric, labels), value
        for metric, value in _link(options.sys / "class/net" / device):
            yield SeriesKey(metric, labels), value


def _net_dev(proc: Path) -> str:
    """`net` links to the reader's own network namespace; under a mounted host procfs only process 1 is the host's."""
    if proc != Path("/proc") and (content := text(proc / "1/net/dev")):
        return content
    return read(proc / "net/dev")


def _link(device: Path) -> Iterator[tuple[str, float]]:
    state = text(device / "operstate")
    if state is not None and state != "unknown":  # loopback and some tunnels never say
        yield "node_network_up", float(state == "up")
    carrier = number(device / "carrier")
    if carrier is not None:
        yield "node_network_carrier", carrier
    megabits = number(device / "speed")  # absent, EINVAL or -1 where unknown; some virtual NICs say 0 or 4294967295
    if megabits and megabits < 2**31:
        yield "node_network_speed_bytes", megabits * 1e6 / 8


def _ports(root: Path) -> Pairs:
    for device in children(root):
        for port in children(device / "ports"):
            labels = (("device", device.name), ("port", port.name))
            for metric, value in _port(port):
                yield SeriesKey(f"node_infiniband_{metric}", labels), value


def _port(port: Path) -> Iterator[tuple[str, float]]:
    for file, (metric, factor) in PORT.items():
        if (count := number(port / file)) is not None:
            yield metric, count * factor
    for file, metric in PORT_STATE.items():
        if (value := parse_number((text(port / file) or "").partition(":")[0])) is not None:
            yield metric, value
    words = (text(port / "rate") or "").split()  # "200 Gb/sec (4X HDR)"
    if len(words) > 1 and words[1] in BITS_PER_S and (rate := parse_number(words[0])) is not None:
        yield "rate_bytes_per_second", rate * BITS_PER_S[words[1]] / 8
