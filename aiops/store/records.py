"""Forecasts and findings in the database: rows of packed values, the newest ones apart so that a cycle reads only those."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import delete, func, insert, select

from aiops.codec import pack, unpack
from aiops.model import Finding, Forecast
from aiops.store import schema
from aiops.store.database import Database
from aiops.store.sealing import portions


class SqlRecords:
    """The `Records` part of the SQL store."""

    _db: Database

    def put_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Keep; the newest of the last ones put per target is what `forecasts` returns."""
        rows = [{"target": one.target, "made_at": one.made_at, "body": pack(one)} for one in forecasts]
        if not rows:
            return
        newest = schema.newest_forecast
        latest = {row["target"]: row for row in sorted(rows, key=itemgetter("made_at"))}
        with self._db.write() as connection:
            connection.execute(insert(schema.forecast), rows)
            for some in portions(list(latest)):
                connection.execute(delete(newest).where(newest.c.target.in_(some)))
            connection.execute(insert(newest), list(latest.values()))

    def forecasts(self, made_since: float = 0.0) -> tuple[Forecast, ...]:
        """Newest forecast per target made since then, sorted by target."""
        table = schema.newest_forecast
        with self._db.read() as connection:
            bodies = connection.scalars(select(table.c.body).where(table.c.made_at >= made_since)).all()
        return tuple(sorted((unpack(Forecast, body) for body in bodies), key=lambda one: one.target))

    def forecast_history(self, target: str, since: float, until: float) -> tuple[Forecast, ...]:
        """All forecasts of one target made in [since, until], oldest first."""
        table = schema.forecast
        query = select(table.c.body).where(table.c.target == target, table.c.made_at.between(since, until))
        with self._db.read() as connection:
            bodies = connection.scalars(query.order_by(table.c.made_at, table.c.seq)).all()
        return tuple(unpack(Forecast, body) for body in bodies)

    def put_findings(self, at: float, findings: Sequence[Finding]) -> None:
        """Keep the result of one diagnosis; an empty one ends what was open."""
        with self._db.write() as connection:
            row = insert(schema.diagnosis).values(at=at).returning(schema.diagnosis.c.seq)
            diagnosis = connection.execute(row).scalar_one()
            if findings:
                rows = [{"diagnosis": diagnosis, "at": at, "id": one.id, "body": pack(one)} for one in findings]
                connection.execute(insert(schema.finding), rows)

    def findings(self) -> tuple[Finding, ...]:
        """Findings of the newest diagnosis, in its own order."""
        table = schema.finding
        newest = select(func.max(schema.diagnosis.c.seq)).scalar_subquery()
        with self._db.read() as connection:
            bodies = connection.scalars(select(table.c.body).where(table.c.diagnosis == newest).order_by(table.c.seq)).all()
        return tuple(unpack(Finding, body) for body in bodies)

    def diagnosed_at(self) -> float | None:
        """When the newest diagnosis was made, None before the first."""
        with self._db.read() as connection:
            at = connection.scalar(select(schema.diagnosis.c.at).order_by(schema.diagnosis.c.seq.desc()).limit(1))
        return None if at is None else float(at)

    def finding_history(self, since: float, until: float, limit: int = 1000) -> tuple[Finding, ...]:
        """Latest state of every finding id seen by a diagnosis in [since, until], newest first."""
        table = schema.finding
        last = select(func.max(table.c.seq)).where(table.c.at.between(since, until)).group_by(table.c.id)
        query = select(table.c.body).where(table.c.seq.in_(last)).order_by(table.c.seq.desc()).limit(limit)
        with self._db.read() as connection:
            return tuple(unpack(Finding, body) for body in connection.scalars(query).all())
