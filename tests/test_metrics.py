"""The catalogue keeps its own rules: units in names, one row per name, valid Prometheus names."""

import re

import pytest

from aiops.metrics import CATALOGUE, Kind, find

UNITS_IN_NAMES = ("seconds", "bytes", "watts", "joules", "celsius", "hertz", "ratio", "bytes_per_s")
KEPT_AS_NODE_EXPORTER_HAS_THEM = {"node_network_speed_bytes", "node_infiniband_rate_bytes_per_second"}


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=lambda row: row.name)
def test_row_follows_the_naming_rules(row):
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", row.name)
    assert row.help.endswith(".")
    assert len(set(row.labels)) == len(row.labels)
    assert "node" not in row.labels, "the scrape adds it to every series"
    if row.unit in UNITS_IN_NAMES and row.name not in KEPT_AS_NODE_EXPORTER_HAS_THEM:
        assert row.unit in row.name
    if row.name.endswith("_total"):
        assert row.kind is Kind.COUNTER


def test_names_are_unique_and_unknown_is_none():
    assert all(find(name).name == name for name in CATALOGUE)
    assert find("no_such_metric") is None
