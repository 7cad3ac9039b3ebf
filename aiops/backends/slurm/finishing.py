"""Ending a move that a daemon began and could not finish: its run was requeued held, and nobody else would let it go.

The move's mark in the job's AdminComment says which run it stopped and where that was to go (`marks.Move`); a journal on this
machine that knows the action says besides whether its requeue was ever sent. Nothing is judged anew, and nothing is stopped.
"""

from __future__ import annotations

from aiops.backends.journal import Journal
from aiops.backends.slurm import marks
from aiops.backends.slurm.commands import Refused
from aiops.backends.slurm.effects import Effects
from aiops.backends.slurm.picture import in_service, job_state
from aiops.backends.slurm.query import Query
from aiops.model import JobState


def end(query: Query, effects: Effects, journal: Journal, job: int) -> str:
    """End the move that one job's comment speaks of; what was ended, empty where nothing was, or not yet. Raises Lost.

    A run that has not been stopped, has been let go, or was stopped again since, only loses that part of its comment: a hold
    that somebody puts on it later must not be taken for ours.
    """
    row = query.job(str(job))
    move = marks.moving(row.admin_comment) if row is not None else None
    if row is None or move is None:
        return ""
    state, sent = job_state(row), [line["what"] for line in journal.lines(move.id)]
    if state is JobState.STOPPING:
        return ""
    try:
        if state is JobState.HELD and row.restarts == move.restarts + 1 and ("sent" in sent or not sent):
            return effects.end_move(row, move, in_service(query.site(("nodes",)).nodes))
        effects.forget_move(row)
    except Refused:
        return ""  # it has changed since: the next look sees how
    return ""
