"""The codec: equal values give equal bytes, and decoding gives the value back."""

import numpy as np
import pytest

from aiops.action import Admission, Decision, Deny, Mode, Preempt, Rollback, ScaleService
from aiops.codec import decode, digest, encode, pack, unpack
from aiops.model import Cluster, Forecast, Gpu, Node, NodeState, Query, Series, SeriesKey
from aiops.snapshot import Snapshot, query_id

SCALE = ScaleService(service="web", uid="u1", version="7", replicas=3, was=2)


def snapshot() -> Snapshot:
    query = Query(metric="load", window_s=60.0)
    key = SeriesKey.of("load", service="web")
    node = Node(name="n1", uid="n1-a", pool="p", state=NodeState.READY, gpus=(Gpu(uuid="g0", index=0),))
    return Snapshot(
        id="c1",
        now=1e9 + 0.1,
        epoch=3,
        cluster=Cluster(at=1e9, backend="local", nodes=(node,)),
        series={query_id(query): (Series(key=key, times=np.array([1.0, 2.0]), values=np.array([0.1 + 0.2, np.nan])),)},
        forecasts=(
            Forecast(
                target=str(key),
                made_at=1.0,
                times=np.array([2.0]),
                quantiles=np.array([0.5, 0.9]),
                values=np.array([[1.0], [2.0]]),
                model="last_value",
            ),
        ),
        modes={"prescale": Mode.ACT},
    )


def test_a_snapshot_survives_the_round_trip_byte_for_byte() -> None:
    once = encode(snapshot())
    again = encode(decode(Snapshot, once))
    assert once == again
    assert unpack(Snapshot, pack(snapshot())).series.keys() == snapshot().series.keys()


def test_missing_stays_missing_and_is_never_zero() -> None:
    back = decode(Snapshot, encode(snapshot()))
    (series,) = next(iter(back.series.values()))
    assert np.isnan(series.values[1])
    assert series.values[0] == 0.1 + 0.2


@pytest.mark.parametrize(
    "action",
    [
        SCALE,
        Rollback(of="a", action=SCALE),
        Preempt(job="j", run_id="r", on_nodes=("n",), checkpoint="c", gpus=8, lost_gpu_s=1.5),
    ],
)
def test_the_union_of_actions_is_told_apart_by_kind(action: object) -> None:
    decision = Decision(policy="p", action=action, reason="why")  # type: ignore[arg-type]
    admission = Admission(id="a1", at=1.0, decision=decision, denied=Deny.COOLDOWN)
    assert decode(Admission, encode(admission)) == admission


def test_the_digest_depends_on_the_value_and_not_on_field_order() -> None:
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_what_the_contract_does_not_have_has_no_bytes() -> None:
    with pytest.raises(TypeError):
        encode(object())


@pytest.mark.parametrize(
    "key", [SeriesKey.of("m"), SeriesKey.of("m", a='x"y\\z\n{},=', b=""), SeriesKey.of("a:b", z="1", a="2")]
)
def test_a_series_key_survives_its_text(key: SeriesKey) -> None:
    assert SeriesKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "m{", "m{}", "m{a=1}", 'm{b="1",a="2"}', "1m", 'm{a="1"', 'm{a="1"}x', 'm{a="1",a="1"}'])
def test_a_text_that_no_key_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected metric"):
        SeriesKey.parse(text)
