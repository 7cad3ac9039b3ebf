"""What is let into the sample store, and why the rest is not: pure, shared by every store.

Names of the counters that `stats` shows: `accepted`, `duplicate` (same key, time and value), `conflict` (another value at a
known key and time), `late`, `not_finite`, `bad_time`, `bad_key`, `refused_series` (more keys than a store of this kind bears).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.model import Batch, Floats, SeriesKey
from aiops.store.chunk import Ints

BLOCK_S = 7200.0  # one chunk per series and two hours, as Prometheus cuts its head: 720 samples at 10 s
LATE_S = 26 * 3600.0  # a wall clock that was a day ahead and is set right again must not blind the store
MAX_KEY_BYTES = 2000  # PostgreSQL indexes at most 2,704 bytes; the longest key of the catalogue has 200
MAX_SERIES = 200_000  # four times what an embedded store is meant for (design.md 6): a flood of keys must not fill the disk
_LAST_TIME = 1e11  # year 5138: beyond it a "time" is milliseconds


def block_start(time: float) -> float:
    """Start of the two hours that `time` lies in."""
    return float(np.floor(time / BLOCK_S) * BLOCK_S)


def key_text(key: SeriesKey) -> str | None:
    """The text that names a series in the database; None for a key that cannot be named."""
    try:
        text = orjson.dumps([key.metric, key.labels]).decode()
    except TypeError:  # lone surrogates have no UTF-8
        return None
    return text if len(text) <= MAX_KEY_BYTES else None


def key_of(text: str) -> SeriesKey:
    """Inverse of `key_text`."""
    metric, labels = orjson.loads(text)
    return SeriesKey(metric, tuple((name, value) for name, value in labels))


def plausible(batch: Batch) -> tuple[Batch, Counter[str]]:
    """The batch without what no store could keep, and counts of what went."""
    if not 0 <= batch.time < _LAST_TIME:
        return Batch(0.0, (), np.empty(0)), Counter(bad_time=len(batch.keys))
    finite = np.isfinite(batch.values)
    if finite.all():
        return batch, Counter()
    keys = tuple(key for key, good in zip(batch.keys, finite, strict=True) if good)
    return Batch(batch.time, keys, batch.values[finite]), Counter(not_finite=int((~finite).sum()))


def first_of_each(ids: Ints, values: Floats) -> tuple[Ints, Floats, Counter[str]]:
    """Ascending ids without repeats; of several values for one id in a batch the first counts, the others are judged by it."""
    unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    if len(unique) == len(ids):
        return unique, values[first], Counter()
    same = values[first][inverse] == values
    counts = Counter(duplicate=int(same.sum()) - len(unique), conflict=int((~same).sum()))
    return unique, values[first], counts


def fresh(values: Floats, known: Floats) -> tuple[NDArray[np.bool_], Counter[str]]:
    """Which of (n,) values are new, given what is known at the same keys and time (NaN: nothing); counts of the others."""
    new = np.isnan(known)
    return new, Counter(duplicate=int((known == values).sum()), conflict=int((~new & (known != values)).sum()))
