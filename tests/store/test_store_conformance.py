"""One behavioural suite over every store."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_postgres import Cluster

from aiops.ports import Store
from aiops.settings import Settings, StoreSettings
from aiops.store.memory import MemoryStore
from aiops.store.opening import open_store
from aiops.testing.store import StoreConformance

KEEP = StoreSettings(samples=86400.0, records=2 * 86400.0)


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore(KEEP)


class TestSqlite(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        opened = open_store(None, Settings(data_dir=tmp_path, store=KEEP))
        yield opened
        opened.close()


class TestPostgres(StoreConformance):
    @pytest.fixture
    def store(self, postgres: Cluster, tmp_path: Path) -> Iterator[Store]:
        opened = open_store(postgres.fresh(), Settings(data_dir=tmp_path, store=KEEP))
        yield opened
        opened.close()

    def lease_expires(self, store: Store, now: float, ttl_s: float) -> float:
        time.sleep(ttl_s)  # the server's clock judges, and nobody can move it
        return now
