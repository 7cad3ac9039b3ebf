"""slurmctld's own OpenMetrics (Slurm 25.11 and later), and how long the tokens that this daemon shows to Slurm still hold.

Counts by state, GPUs by node and the scheduler's own health, in the catalogue's names; the table below is the file. Sources:
slurm.schedmd.com/metrics.html and Slurm's src/plugins/metrics/openmetrics. The endpoint of users and accounts is left alone:
its series are without bound, and Slurm's own page advises against storing them. An older slurmctld has none of this: Temporary.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from aiops.errors import ConfigError, NoData, Temporary
from aiops.model import Batch, SeriesKey
from aiops.settings import Seconds, Section
from aiops.token import claims
from collectors.exposition import Limits, Request, fetch_all, parse
from collectors.section import parse as parse_section

ENDPOINTS = ("jobs", "nodes", "partitions", "scheduler")
_MOST_SAMPLES = 200_000  # 10 series a node and 80 a partition: 10,000 nodes and 1,000 partitions
_US = 1e-6  # the scheduler's times are microseconds

# `powering_up` is left out of the nodes' states: 25.11 writes there how many are powering *down*.
_NODE_STATES = (
    "alloc blocked cloud completing down drain drained draining fail future idle invalid_reg maint mixed noresp planned "
    "power_down power_up powered_down reboot_issued reboot_req resv unknown"
)
_JOB_STATES = (
    "bootfail cancelled completed completing configuring deadline failed hold node_failed outofmemory pending preempted "
    "requeued running stageout suspended timeout"
)
_STATES = (
    ("slurm_nodes_", "cluster_nodes", _NODE_STATES.split()),
    ("slurm_jobs_", "cluster_jobs", _JOB_STATES.split()),
    ("slurm_partition_jobs_", "cluster_jobs", _JOB_STATES.split()),
)
_PLAIN: Mapping[str, tuple[str, tuple[tuple[str, str], ...], float]] = {
    "slurm_jobs_gpus_alloc": ("cluster_gpus", (("state", "allocated"),), 1.0),
    "slurm_node_gpus": ("node_gpus", (), 1.0),
    "slurm_node_gpus_alloc": ("node_gpus_allocated", (), 1.0),
    "slurm_partition_jobs_gpus_alloc": ("queue_gpus_allocated", (), 1.0),
    "slurm_schedule_cycle_last": ("slurm_scheduler_cycle_seconds", (("kind", "main"),), _US),
    "slurm_bf_cycle_last": ("slurm_scheduler_cycle_seconds", (("kind", "backfill"),), _US),
    "slurm_schedule_queue_len": ("slurm_scheduler_queue_jobs", (), 1.0),
    "slurm_agent_queue_size": ("slurm_agent_queue_requests", (), 1.0),
    "slurm_server_thread_cnt": ("slurm_server_threads", (), 1.0),
    "slurm_slurmdbd_queue_size": ("slurm_dbd_queue_messages", (), 1.0),
}
NAMES: Mapping[str, tuple[str, tuple[tuple[str, str], ...], float]] = {
    **{f"{prefix}{state}": (name, (("state", state),), 1.0) for prefix, name, states in _STATES for state in states},
    **_PLAIN,
}
"""Slurm's name -> (our name, labels that it stands for, factor). Nodes' flags overlap their states, and do not add up."""
_LABELS = {"partition": "queue", "node": "node"}


class SlurmOptions(Section):
    """`url` of slurmctld (http://host:6817), whose metrics may want a token; `tokens` by name, watched until they run out."""

    url: str = Field(default="", pattern=r"^(https?://[^/\s]+/?)?$")
    token_file: Path | None = None
    tokens: dict[str, Path] = Field(default_factory=dict)
    timeout: Seconds = 4.0
    max_bytes: int = Field(default=64 * 2**20, ge=1024)
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _has_something_to_read(self) -> SlurmOptions:
        if not self.url and not self.tokens:
            raise ValueError("expected `url` or `tokens`")
        return self


class SlurmCollector:
    """Collector `slurm`."""

    name: ClassVar[str] = "slurm"

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options
        self._tls = ssl.create_default_context(cafile=options.ca_file) if options.url.startswith("https:") else None

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """Keys as in `SlurmOptions`; ConfigError otherwise."""
        options = parse_section(SlurmOptions, section, where, cls.name)
        try:
            return cls(options)
        except OSError as error:
            raise ConfigError(where, "collectors.slurm.ca_file", f"expected certificates: {error.strerror}") from None

    def collect(self, now: float) -> Batch:
        """Tokens always; of the endpoints those that answer. Temporary where nothing at all could be read."""
        found = dict(self._tokens(now))
        failures = self._metrics(found) if self._options.url else []
        if len(failures) == len(ENDPOINTS) and not self._options.tokens:
            raise Temporary("; ".join(failures)[:500])
        if not found:
            raise NoData("no token says when it runs out")
        return Batch.of(now, found.items())

    def _tokens(self, now: float) -> Iterator[tuple[SeriesKey, float]]:
        for name, path in sorted(self._options.tokens.items()):
            told = claims(_text(path))
            if told.expires_at is not None:
                yield SeriesKey.of("aiops_token_expires_in_seconds", token=name), told.expires_at - now
                if told.issued_at is not None:
                    yield SeriesKey.of("aiops_token_lifetime_seconds", token=name), told.expires_at - told.issued_at

    def _metrics(self, found: dict[SeriesKey, float]) -> list[str]:
        """What the endpoints say, into `found`; what is wrong with those that did not."""
        base, failures = self._options.url.rstrip("/"), []
        token = _text(self._options.token_file) if self._options.token_file else ""
        requests = [Request(f"{base}/metrics/{endpoint}", token) for endpoint in ENDPOINTS]
        answers = fetch_all(requests, Limits(self._options.timeout, self._options.max_bytes), self._tls)
        for request, answer in zip(requests, answers, strict=True):
            failure = str(answer) if isinstance(answer, Temporary) else _take(answer, found)
            failures += [f"{request.url}: {failure}"] if failure else []
            found[SeriesKey.of("aiops_target_up", target=request.url)] = float(not failure)
        return failures


def _take(content: str, found: dict[SeriesKey, float]) -> str:
    """All of one answer into `found`, or nothing of it; what is wrong with it, or an empty text."""
    try:
        taken = dict(_translated(parse(content, set(NAMES), _MOST_SAMPLES)))
    except ValueError as error:
        return str(error)[:200]
    if not taken:
        return "nothing of slurmctld's in the answer"
    found.update(taken)
    return ""


def _translated(samples: Iterable[tuple[str, Mapping[str, str], float]]) -> Iterator[tuple[SeriesKey, float]]:
    for name, labels, value in samples:
        metric, added, factor = NAMES[name]
        kept = {_LABELS[label]: text for label, text in labels.items() if label in _LABELS}
        yield SeriesKey.of(metric, **kept, **dict(added)), value * factor


def _text(path: Path) -> str:
    """Read at every scrape, so that a renewed token is used; a file that cannot be read holds none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
