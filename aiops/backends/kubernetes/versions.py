"""Which version of an API group to speak, where projects move theirs on: asked of the server's own discovery, never assumed."""

from __future__ import annotations

from collections.abc import Sequence

from aiops.backends.kubernetes.connection import Connection, Refused
from aiops.backends.kubernetes.kinds import Kind


def served(connection: Connection, known: Sequence[Kind]) -> Kind:
    """The first of `known`, all of one group, that the server serves now; the first where it tells of none of them.

    Raises NotSent, Lost, or Refused where the answer is neither that there is no such group nor that it may not be told.
    """
    try:
        found = connection.get(f"/apis/{known[0].group}")
    except Refused as error:
        if error.code not in (403, 404):
            raise
        return known[0]
    versions = {row.get("version") for row in found.get("versions") or () if isinstance(row, dict)}
    return next((kind for kind in known if kind.version in versions), known[0])
