"""Forecasts and diagnoses, refreshed beside the loop and never inside it.

Reads series through the store's port, computes in workers and writes rows back. Whatever happens to a fit, every target
gets a row: the fallback, with the reason. Knows nothing of policies; the loop only ever reads the newest rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from aiops.drawing import LATE, Drawings, is_scaled
from aiops.forecast.baselines import LastValue
from aiops.forecast.gate import fallback, settle_refusal
from aiops.forecast.limits import companions, limited, limits_of
from aiops.forecast.live import Judged, Learnt, draw, group, learn, say
from aiops.forecast.record import Said
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar
from aiops.forecast.voices import Shapes
from aiops.forecast.warning import RUN, anomalies, exhaustions
from aiops.foresight import Foresight, Plan
from aiops.model import Cluster, Finding, Floats, Forecast, Query, SeriesKey
from aiops.past import Past
from aiops.ports import Diagnoser, Grid, Records, SeriesStore
from aiops.workers import DaskWorkers, Executor, Workers

GROUP = 500
"""Series that one task forecasts: small enough to spread over workers, large enough to learn from each other's record."""


FORESEEN_S = 3600.0
"""A forecast reaches half an hour ahead: an older one says nothing of now. A diagnosis, too, looks back for an hour."""

LEARN_SERIES = 1250
"""Series that learning sees, evenly picked: with the fewest moments of each they fill `regression.MAX_ROWS`."""

RETRY_S = 3600.0
"""After a fit that failed or hung, this long until the next: it may cost the workers a whole timeout."""

RECENT_FORECAST_S = 900.0
"""Older forecasts warn of nothing: three refreshes were missed."""


Model = bytes
"""A `Learnt`, pickled by the worker that made it: the daemon carries it unopened, else it would have scikit-learn in memory."""


Place = tuple[bool, int]
"""A group of series, by which its record is found again: whether of devices, and its place among those or among the rest."""


_Due = tuple[list[tuple[Any, ...]], list[tuple[Grid, ...]]]
"""The task of learning, if it is time, and the groups of series that Prophet is due for."""


class Shelf(SeriesStore, Records, Protocol):
    """What a refresh reads and writes: series in, forecasts and findings out."""


class Refresher:
    """Owns the worker processes and what was learnt. Not thread-safe: one refresh at a time."""

    def __init__(self, shelf: Shelf, plan: Plan | None = None, executor: Executor | None = None) -> None:
        self.shelf, self.plan = shelf, plan or Plan()
        self._executor: Executor = executor or Workers()
        self._learnt: Model | None = None
        self.drawings = Drawings(self.plan, RETRY_S)
        self._learn_at, self._trouble = -np.inf, ""
        self._said: dict[Place, Said] = {}
        self._accepted: frozenset[str] | None = None
        self._earlier: list[tuple[float, dict[str, Forecast]]] = []
        self.past = Past(shelf, self.plan)
        self.departed: tuple[Finding, ...] = ()

    def forecasts(self, now: float, queries: Sequence[Query]) -> tuple[Forecast, ...]:
        """Forecast every series the queries find (windows and steps are the plan's), store the rows and return them."""
        grids = self.past.grids(now, queries)
        if self._accepted is None:  # the choice of the daemon before
            self._accepted = accepted([one for one in self.shelf.forecasts(now - FORESEEN_S) if one.made_at <= now])
        made = keep_choice(self.refresh(grids), self._accepted)
        self._accepted = accepted(made)
        self.shelf.put_forecasts(made)
        self.departed = self._departures(grids, made, now)
        return made

    def _departures(self, grids: Sequence[Grid], made: Sequence[Forecast], now: float) -> tuple[Finding, ...]:
        """What has left the band that was forecast before it left; remembers what is forecast now."""
        least = RUN * self.plan.step_s
        old = [one for one in self._earlier if now - one[0] >= least]
        found = anomalies(old[-1][1], grids, now) if old else ()
        recent = [one for one in self._earlier if 0 <= now - one[0] < least]  # none of a clock that was wrong
        self._earlier = [*old[-1:], *recent, (made[0].made_at, {f.target: f for f in made})] if made else self._earlier
        return found

    def refresh(self, panel: Sequence[Grid]) -> tuple[Forecast, ...]:
        """A forecast per series of a panel whose grids end together: learn if that is due, then say, group by group.

        After the first time it is learnt beside the forecasts, which speak by yesterday's model. A series of which nothing is
        known yet has no forecast: missing is never zero.
        """
        panel = [grid for grid in panel if np.isfinite(grid.values).any()]
        if not panel:
            return ()
        groups = grouped(panel)
        end = panel[0].end
        due: _Due = self._due(panel), self.drawings.due(panel, end)
        if due[0] and self._learnt is None:
            self._adopt(self._run(self._fitting(due)), due, end)
            due = [], []
        if self._learnt is None:
            return plain(panel, self.plan, self._trouble)
        results = self._run([*(self._saying(place, part) for place, part in groups.items()), *self._fitting(due)])
        unheard = self.drawings.unheard(panel)
        made: list[Forecast] = []
        self._said = {place: said for place, said in self._said.items() if place in groups}
        for (place, part), (judged, trouble) in zip(groups.items(), results, strict=False):
            if judged is None:
                made += plain(part, self.plan, trouble)
            else:
                self._said[place] = judged.said
                made += (replace(f, model=f.model + unheard.get(f.target, "")) for f in judged.forecasts)
        self._adopt(results, due, end)
        return tuple(made)

    def _run(self, tasks: Sequence[tuple[Any, ...]]) -> list[tuple[Any, str]]:
        return self._executor.run(perform, tasks, self.plan.timeout_s)

    def _saying(self, place: Place, part: Sequence[Grid]) -> tuple[Any, ...]:
        """The task of one group: with the shapes of its own series, not of all."""
        return say_group, part, self.plan.ask, self.plan.calendar, self._learnt, self.drawings.of(part), self._said.get(place)

    def _due(self, panel: Sequence[Grid]) -> list[tuple[Any, ...]]:
        """The task of learning the global model anew, where it is time, or was learnt by a clock that ran ahead."""
        if self._learn_at - self.plan.refit_s <= panel[0].end < self._learn_at:
            return []
        sample = tuple(panel[:: -(-len(panel) // LEARN_SERIES)])
        return [(learn_panel, sample, replace(self.plan.ask, series=len(panel)), self.plan.calendar)]

    def _fitting(self, due: _Due) -> list[tuple[Any, ...]]:
        """The tasks of what is due: Prophet's by themselves, for they may hang, from yesterday's shapes of their series on."""
        learning, drawing = due
        shared = self.plan.ask, self.plan.calendar
        return [*learning, *((draw_shapes, part, *shared, self.drawings.of(part)[0]) for part in drawing)]

    def _adopt(self, results: Sequence[tuple[Any, str]], due: _Due, end: float) -> None:
        """What was learnt holds from the next forecast on; after a failure yesterday's is better than none."""
        learning, drawing = due
        first = len(results) - len(drawing)
        if learning:
            learnt, self._trouble = results[first - 1]
            self._learnt = learnt or self._learnt
            self._learn_at = end + (min(RETRY_S, self.plan.refit_s) if self._trouble else self.plan.refit_s)
        behind = any(trouble == LATE for _, trouble in results[:first])
        self.drawings.adopt(drawing, results[first:], end, behind)

    @classmethod
    def from_settings(cls, shelf: Shelf, section: Mapping[str, Any], where: str) -> Refresher:
        """As the settings' `forecast` section says. Raises ConfigError for the first thing wrong in it."""
        asked = Foresight.from_settings(section, where)
        return cls(shelf, asked.plan, DaskWorkers(asked.scheduler) if asked.scheduler else Workers(asked.workers))

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._executor.close()


def grouped(panel: Sequence[Grid]) -> dict[Place, tuple[Grid, ...]]:
    """The panel in the groups that are forecast together: what is acted upon by itself, so that devices, which come and go
    and are many, neither start its record anew nor thin it out.
    """
    parts = {devices: [grid for grid in panel if is_scaled(grid.key) is not devices] for devices in (False, True)}
    return {(devices, place): one for devices, part in parts.items() for place, one in enumerate(group(part, GROUP))}


def perform(work: Callable[..., Any], *task: Any) -> Any:
    """One task of any kind, so that different ones share the workers; runs in a worker."""
    return work(*task)


def learn_panel(panel: Sequence[Grid], ask: Ask, calendar: Calendar) -> Model:
    """Fit the global model on a panel; runs in a worker."""
    return pickle.dumps(learn(panel, ask, calendar))


def draw_shapes(panel: Sequence[Grid], ask: Ask, calendar: Calendar, warm: Shapes) -> tuple[Shapes, Shapes]:
    """Fit Prophet to each series; runs in a worker."""
    return draw(panel, ask, calendar, warm)


def say_group(
    panel: Sequence[Grid], ask: Ask, calendar: Calendar, model: Model, shapes: tuple[Shapes, Shapes], said: Said | None
) -> Judged:
    """Forecast one group; runs in a worker."""
    learnt = replace(opened(model), shapes=shapes[0], earlier_shapes=shapes[1])
    return say(panel, ask, calendar, learnt, said)


def opened(model: Model) -> Learnt:
    """What `learn_panel` made, in this process; only ever our own bytes, which were never on disk."""
    learnt: Learnt = pickle.loads(model)  # noqa: S301
    return learnt


def accepted(made: Sequence[Forecast]) -> frozenset[str]:
    """Targets whose forecast may be acted upon."""
    return frozenset(f.target for f in made if f.refused is None)


def keep_choice(made: Sequence[Forecast], accepted: frozenset[str]) -> tuple[Forecast, ...]:
    """Hysteresis: what could be acted upon stays so unless clearly worse, what could not must be clearly better."""
    return tuple(replace(f, refused=settle_refusal(f, f.target in accepted)) for f in made)


def plain(panel: Sequence[Grid], plan: Plan, reason: str) -> tuple[Forecast, ...]:
    """The last value for every series, refused for the named reason: scaling stays reactive."""
    asked: Floats = np.array(plan.quantiles)
    ahead: Floats = plan.step_s * np.arange(1, plan.steps + 1, dtype=np.float64)
    name = f"{LastValue.name}(fallback: {reason})"
    return tuple(
        Forecast(
            target=str(grid.key),
            made_at=grid.end,
            times=grid.end + ahead,
            quantiles=asked,
            values=fallback(grid, plan.steps, asked),
            model=name,
            refused=reason,
        )
        for grid in panel
        if np.isfinite(grid.values).any()
    )


def refresh_findings(
    shelf: Shelf,
    diagnosers: Sequence[Diagnoser],
    cluster: Cluster,
    ask: tuple[float, Sequence[Query]],
    refresher: Refresher | None = None,
) -> tuple[Finding, ...]:
    """Diagnose the series that `ask` = (now, queries) finds, add what is foreseen and what left its band; store what holds.

    Returns the findings, best first.
    """
    now, queries = ask
    series = [s for query in queries for s in shelf.read(query, now)]
    findings: list[Finding] = []
    known, made = shelf.finding_history(now - FORESEEN_S, now), foreseen(shelf, {str(one.key) for one in series}, now)
    for diagnoser in diagnosers:
        findings += diagnoser.diagnose(cluster, series, now, known, made)
    findings += warnings_at(shelf, now)
    findings += [one for one in (refresher.departed if refresher else ()) if now - one.at <= RECENT_FORECAST_S]
    findings.sort(key=lambda finding: (-finding.score, finding.id))
    shelf.put_findings(now, findings)
    return tuple(findings)


def foreseen(shelf: Shelf, targets: set[str], now: float) -> tuple[Forecast, ...]:
    """Forecasts of the last hour for the series that are diagnosed, older ones too: the newest may have learnt the fault."""
    mine = [f.target for f in shelf.forecasts(now - FORESEEN_S) if f.target in targets]
    return tuple(f for target in mine for f in shelf.forecast_history(target, now - FORESEEN_S, now))


def warnings_at(shelf: Shelf, now: float) -> tuple[Finding, ...]:
    """What will likely run out within the newest forecasts' horizon."""
    forecasts = shelf.forecasts(now - RECENT_FORECAST_S)
    if not forecasts:
        return ()
    beside = [
        s for metric in (*companions(), *limited()) for s in shelf.read(Query(metric=metric, window_s=RECENT_FORECAST_S), now)
    ]
    return exhaustions(forecasts, limits_of([SeriesKey.parse(f.target) for f in forecasts], beside), now)
