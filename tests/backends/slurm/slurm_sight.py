"""What Slurm itself says of everything that an action could change, read without any of the backend's own parsers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson
from slurm_server import SlurmServer

Sight = dict[str, tuple[str, ...]]
"""By `job/ID`: state, restarts, submit time, when last suspended or resumed. By `node/NAME`: drained or not, and why. By
`res/NAME`: nodes, licences, whether it lasts for ever. Any effect changes one of them."""


def look(server: SlurmServer) -> Sight:
    """Jobs, nodes and reservations as they are now."""
    found: Sight = {}
    for job in orjson.loads(server.run("squeue", "--json").stdout)["jobs"]:
        values = (job["job_state"], job["restart_cnt"], job["submit_time"], job["suspend_time"])
        found[f"job/{job['job_id']}"] = tuple(map(str, values))
    for line in server.run("scontrol", "-o", "show", "node").stdout.splitlines():
        head = re.search(r"NodeName=(\S+).* State=(\S+)", line)
        reason = line.partition(" Reason=")[2].strip()
        if head is not None:
            found[f"node/{head[1]}"] = (str("DRAIN" in head[2]), reason if "DRAIN" in head[2] else "")
    for line in server.run("scontrol", "-o", "show", "res").stdout.splitlines():
        row = dict(re.findall(r"(\w+)=(\S*)", line))
        if "ReservationName" in row:
            ever = str(row["Duration"].startswith("365-"))
            found[f"res/{row['ReservationName']}"] = (row["Nodes"], row["Licenses"], ever)
    return found


def settled(sight: Sight) -> Sight:
    """What may only change if it is the target; a job that waits or ends changes by itself."""
    return {
        key: row for key, row in sight.items() if not key.startswith("job/") or row[0] in ("RUNNING", "SUSPENDED", "CANCELLED")
    }


def addresses(argv: Sequence[str], key: str) -> bool:
    """True where a command of ours that changes something names this job, node or reservation."""
    kind, _, name = key.partition("/")
    changes = argv[0] == "scancel" or (argv[0] == "scontrol" and "show" not in argv)
    words = {"job": (name, f"JobId={name}"), "node": (f"NodeName={name}",), "res": (f"ReservationName={name}",)}
    return changes and any(word in words[kind] for word in argv[1:])
