"""Fetching and reading a Prometheus exposition that may be hostile: bounded in bytes, in time and in series.

The size limit counts decompressed bytes, for a kilobyte of gzip can be a gigabyte of text; the time limit is on the whole
answer, for a server that sends one byte per second never times out a single read.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiops.errors import Temporary

if TYPE_CHECKING:
    import httpx

# Text 0.0.4 is asked for: every exporter speaks it, and its parser forgives what OpenMetrics' must refuse.
_ACCEPT = "text/plain;version=0.0.4,*/*;q=0.1"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PARALLEL = 32
# A label longer than this is a payload, not a name (Prometheus' own limits are of this order where they are set).
_MAX_LABEL = 1024
# The parser looks back over every run of backslashes for each of them: 8 kB of them in one line take 0.1 s, and 16 MB of
# such lines minutes. No label has such a run, and no honest line is longer than this.
_MAX_LINE = 16_384
_BACKSLASHES = "\\" * 64


@dataclass(frozen=True, slots=True)
class Request:
    """One endpoint; `token` is sent as a bearer token where not empty."""

    url: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and decompressed bytes for each answer."""

    timeout_s: float
    max_bytes: int


def fetch_all(requests: Sequence[Request], limits: Limits, tls: ssl.SSLContext | None) -> list[str | Temporary]:
    """The text of each endpoint, or why there is none; in order, all within about `limits.timeout_s` per 32 endpoints."""
    return asyncio.run(_fetch_all(requests, limits, tls))


async def _fetch_all(requests: Sequence[Request], limits: Limits, tls: ssl.SSLContext | None) -> list[str | Temporary]:
    import httpx

    gate = asyncio.Semaphore(_PARALLEL)
    # Proxies from the environment are meant for the internet, not for exporters of this cluster.
    async with httpx.AsyncClient(verify=tls or False, trust_env=False, timeout=limits.timeout_s) as client:

        async def one(request: Request) -> str | Temporary:
            async with gate:
                try:
                    async with asyncio.timeout(limits.timeout_s):
                        return await _fetch(client, request, limits.max_bytes)
                except TimeoutError:
                    return Temporary(f"{request.url}: no complete answer within {limits.timeout_s:g} s")
                except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, zlib.error, OSError) as error:
                    return Temporary(f"{request.url}: {error or type(error).__name__}")
                except Temporary as error:
                    return error

        return await asyncio.gather(*(one(request) for request in requests))


async def _fetch(client: httpx.AsyncClient, request: Request, max_bytes: int) -> str:
    headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip"}
    if request.token:
        headers["Authorization"] = f"Bearer {request.token}"
    body = bytearray()
    async with client.stream("GET", request.url, headers=headers) as response:
        if response.status_code != 200:
            raise Temporary(f"{request.url}: HTTP {response.status_code}")
        gunzip = zlib.decompressobj(31) if response.headers.get("content-encoding") == "gzip" else None
        async for chunk in response.aiter_raw():
            body += gunzip.decompress(chunk, max_bytes + 1 - len(body)) if gunzip else chunk
            if len(body) > max_bytes:
                raise Temporary(f"{request.url}: more than {max_bytes} bytes")
    if gunzip is not None and not gunzip.eof:
        raise Temporary(f"{request.url}: the compressed answer is cut off")
    return body.decode("utf-8", "replace")


def parse(content: str, wanted: set[str] | None, max_samples: int) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """(name, labels, value) of the samples whose name is in `wanted` (None: all).

    Raises ValueError where it is no exposition, and before any parsing where it has more than `max_samples` of them. Lines
    of other names are not parsed: the parser costs more than the network, and most of an exporter is of no use here.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines = _lines(content, wanted)
    if len(lines) > max_samples:
        raise ValueError(f"more than {max_samples} samples")
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if all(len(value) <= _MAX_LABEL and value.isprintable() for value in sample.labels.values()):
                yield sample.name, sample.labels, sample.value


def names(content: str) -> set[str]:
    """Metric names in an exposition. Raises ValueError at a line that does not start with one."""
    return {name for name, _ in _named(content)}


def _lines(content: str, wanted: set[str] | None) -> list[str]:
    named = (line for name, line in _named(content) if wanted is None or name in wanted)
    return [line for line in named if len(line) <= _MAX_LINE and _BACKSLASHES not in line]


def _named(content: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            name = _NAME.match(line)
            if name is None:
                raise ValueError(f"line {number} does not start with a metric name")
            yield name[0], line
