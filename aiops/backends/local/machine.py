"""What this machine has: nodes (one, or the declared virtual ones), GPUs by NVML or declared slots, NICs, file systems.

Reads only. A machine without the NVIDIA library has no GPUs; one whose library fails cannot be read.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aiops.backends.local.declare import ClusterSpec, NodeSpec
from aiops.backends.local.state import NodeRecord, State
from aiops.errors import Unreadable
from aiops.model import Gpu, Link, Node, Pool, Queue, Share, Volume


def nodes(spec: ClusterSpec, state: State) -> tuple[Node, ...]:
    """All nodes, sorted by name. Raises Unreadable where NVML is there but does not answer."""
    declared = spec.nodes or {_host(): NodeSpec()}
    real: tuple[Gpu, ...] | None = None
    out = []
    for name, node in sorted(declared.items()):
        if node.gpus is None:
            real = nvml_gpus() if real is None else ()  # real GPUs belong to the first node that asks for them
        gpus = _slots(name, node) if node.gpus is not None else real or ()
        out.append(_node(name, node, gpus, state.nodes.get(name, NodeRecord()), len(declared)))
    return tuple(out)


def renewed(found: tuple[Node, ...], state: State) -> tuple[Node, ...]:
    """The same nodes with what the state now says of them; the hardware is not read again (NVML may take a second)."""
    records = [(node, state.nodes.get(node.name, NodeRecord())) for node in found]
    return tuple(replace(node, state=record.state, reason=record.reason) for node, record in records)


def _node(name: str, spec: NodeSpec, gpus: tuple[Gpu, ...], record: NodeRecord, share: int) -> Node:
    return Node(
        name=name,
        uid=f"{_machine_id()}/{name}",
        pool=spec.pool,
        state=record.state,
        gpus=gpus,
        cpu_cores=spec.cpu_cores if spec.cpu_cores is not None else (os.cpu_count() or 1) / share,
        memory_bytes=spec.memory if spec.memory is not None else _memory_bytes() / share,
        rack=spec.rack,
        reason=record.reason,
        protected=spec.protected,
    )


def _slots(name: str, spec: NodeSpec) -> tuple[Gpu, ...]:
    count = spec.gpus or 0
    return tuple(
        Gpu(uuid=f"SLOT-{name}-{index}", index=index, model=spec.gpu_model, memory_bytes=spec.gpu_memory)
        for index in range(count)
    )


def nvml_gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs of this host in index order, empty without the library; a lost one is `healthy=False`."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return ()
    except pynvml.NVMLError as error:
        if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
            return ()
        raise Unreadable(f"NVML: {error}") from None
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        raise Unreadable(f"NVML: {error}") from None
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
            index=index,
            model=str(pynvml.nvmlDeviceGetName(handle)),
            memory_bytes=_memory(handle),
        )
    except pynvml.NVMLError_GpuIsLost:
        return Gpu(uuid=f"LOST-{index}", index=index, healthy=False)


def _memory(handle: object) -> float | None:
    """Bytes of a GPU's memory; None where the card has none of its own (Grace) or hides it (MIG without permission)."""
    import pynvml

    absent = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission)
    try:
        return float(pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2).total)
    except absent:
        return None


def pools(found: tuple[Node, ...]) -> tuple[Pool, ...]:
    """Pools of the nodes; on one machine they cannot be scaled, so that least and most are what there is."""
    out = []
    for name in sorted({node.pool for node in found}):
        members = [node for node in found if node.pool == name]
        model = next((gpu.model for node in members for gpu in node.gpus), "")
        out.append(
            Pool(name=name, gpu_type=model, nodes=len(members), min_nodes=len(members), max_nodes=len(members), version="0")
        )
    return tuple(out)


def queues(spec: ClusterSpec, found: tuple[Node, ...]) -> tuple[Queue, ...]:
    """Declared queues, or one that may use everything."""
    if not spec.queues:
        return (Queue(name="default", quota_gpus=sum(len(node.gpus) for node in found)),)
    rows = sorted(spec.queues.items())
    return tuple(
        Queue(
            name=n, quota_gpus=q.quota_gpus, lends=q.lends, borrows=q.borrows, priority=q.priority, min_runtime_s=q.min_runtime
        )
        for n, q in rows
    )


def links(spec: ClusterSpec, found: tuple[Node, ...], state: State, enforced: Mapping[str, str]) -> tuple[Link, ...]:
    """Declared links and this host's NICs of known speed, sorted by name.

    `enforced` names those whose caps are imposed, each with what is only accounted there.
    """
    home = found[0].name if len(found) == 1 else ""
    declared = {
        name: Link(
            name=name, kind=row.kind, capacity_bytes_per_s=row.capacity, parent=row.parent, node=home,
            device=row.device.removeprefix("/dev/"),
        )
        for name, row in spec.links.items()
    }  # fmt: skip
    every = {**_nics(home), **declared}
    return tuple(
        replace(link, enforced=name in enforced, accounted=enforced.get(name, ""), shares=_shares(name, state))
        for name, link in sorted(every.items())
    )


def _shares(link: str, state: State) -> tuple[Share, ...]:
    guarantees = {row.owner: row.bytes_per_s for row in state.guarantees.values() if row.link == link}
    caps = {row.owner: row.bytes_per_s for row in state.caps.values() if row.link == link}
    return tuple(
        Share(owner=owner, guarantee_bytes_per_s=guarantees.get(owner), cap_bytes_per_s=caps.get(owner))
        for owner in sorted(guarantees.keys() | caps.keys())
    )


def _nics(node: str, root: Path = Path("/sys/class/net")) -> dict[str, Link]:
    out: dict[str, Link] = {}
    for place in root.iterdir() if root.is_dir() else ():
        try:
            megabits = float((place / "speed").read_text())
        except (OSError, ValueError):
            continue  # lo, bridges and NICs that are down have no speed
        if megabits > 0:
            out[place.name] = Link(
                name=place.name, kind="nic", capacity_bytes_per_s=megabits * 125_000, node=node, device=place.name
            )
    return out


def volumes(spec: ClusterSpec) -> tuple[Volume, ...]:
    """Declared volumes, sorted by name, with their size and use where they have a path that can be read."""
    out = []
    for name, volume in sorted(spec.volumes.items()):
        size, used = _fill(volume.path) if volume.path else (None, None)
        out.append(Volume(name=name, link=volume.link, size_bytes=size, used_bytes=used))
    return tuple(out)


def _fill(path: Path) -> tuple[float | None, float | None]:
    try:
        seen = os.statvfs(path)
    except OSError:
        return None, None
    return float(seen.f_blocks * seen.f_frsize), float((seen.f_blocks - seen.f_bfree) * seen.f_frsize)


def _host() -> str:
    return socket.gethostname().split(".")[0] or "localhost"


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or _host()
    except OSError:
        return _host()


def _memory_bytes() -> float:
    try:
        line = Path("/proc/meminfo").read_text().splitlines()[0]
        return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        raise Unreadable("/proc/meminfo cannot be read") from None
