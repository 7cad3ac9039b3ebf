"""What we leave in Slurm so that any later daemon can tell what was done: names and texts made from action ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

_HOLD = re.compile(r"aiops-h-(?P<hold>[A-Za-z0-9._-]+)-f(?P<fence>[0-9]+)")
_MARK = re.compile(r"\s*aiops=[A-Za-z0-9._:-]+@[0-9]+(?: aiops-moves=[0-9]+:\S*)?")
_MOVES = re.compile(r"aiops=(?P<id>[A-Za-z0-9._:-]+)@(?P<at>[0-9]+) aiops-moves=(?P<restarts>[0-9]+):(?P<nodes>\S+)$")


@dataclass(frozen=True, slots=True)
class Move:
    """What a job's comment says of a move that was begun: by which action, from which run of it, and to which nodes."""

    id: str
    restarts: int
    to_nodes: tuple[str, ...]


def plain(id: str) -> str:
    """An admission id as it may stand in a comment."""
    return id if re.fullmatch(r"[A-Za-z0-9._:-]{1,80}", id) else sha256(id.encode()).hexdigest()[:32]


def job_comment(existing: str, id: str, frozen_at: float) -> str:
    """An administrator's comment with our mark at its end; an earlier mark of ours gives way.

    `frozen_at` is when the run had last been suspended or resumed, by slurmctld's clock: what shows later whether it was since.
    """
    kept = "".join(c if c.isprintable() else " " for c in _MARK.sub("", existing))[:200].strip()
    return f"{kept} aiops={plain(id)}@{int(frozen_at)}".strip()


def marked(comment: str, id: str) -> float | None:
    """The `frozen_at` that a job was marked with for this action; None where it was not, or another has marked it since."""
    found = re.search(rf"aiops={re.escape(plain(id))}@([0-9]+)(?: aiops-moves=\S+)?$", comment.strip())
    return float(found[1]) if found else None


def moves(comment: str, restarts: int, to_nodes: Iterable[str]) -> str:
    """A comment that ends with our mark, and now with what its move is up to: whoever finds the run held can let it go."""
    return f"{comment} aiops-moves={restarts}:{','.join(sorted(to_nodes))}"


def moving(comment: str) -> Move | None:
    """The move that a job's comment says was begun and not ended; None where it says none."""
    found = _MOVES.search(comment.strip())
    return Move(found["id"], int(found["restarts"]), tuple(found["nodes"].split(","))) if found else None


def settled(comment: str) -> str:
    """The comment without its move: our mark stays."""
    return comment.strip().rpartition(" aiops-moves=")[0] if moving(comment) is not None else comment


def node_reason(kind: str, text: str, id: str) -> str:
    """A drain's reason: in words, then which action of ours asked for it."""
    return f"{text} (aiops {kind} {plain(id)})"


def is_cordon(reason: str) -> bool:
    """True where we took the node out of service without asking its work to leave."""
    return "(aiops cordon " in reason


def hold_name(hold: str, fence: int) -> str:
    """Name of a hold's reservation: Slurm refuses a second one of the same name. ValueError for a name it cannot have."""
    name = f"aiops-h-{hold}-f{fence}"
    if not _HOLD.fullmatch(name) or len(name) > 200:
        raise ValueError(f"not a name that a reservation can have: {hold[:40]!r}")
    return name


def fence_of(reservation: str, hold: str) -> int | None:
    """The fence under which a hold was granted, from its reservation's name; None where it is another one's."""
    found = _HOLD.fullmatch(reservation)
    return int(found["fence"]) if found and found["hold"] == hold else None


def bandwidth_name(link: str, owner: str) -> str:
    """Name of an owner's guarantee on a link: one per pair, so that a repeat finds it."""
    return f"aiops-b-{sha256(f'{link} {owner}'.encode()).hexdigest()[:20]}"


def is_ours(reservation: str) -> bool:
    """True for a reservation that this program made."""
    return reservation.startswith(("aiops-h-", "aiops-b-"))
