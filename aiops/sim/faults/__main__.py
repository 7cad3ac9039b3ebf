"""`python -m aiops.sim.faults OUT --cases 50 --seed 1`: write case folders, `--cases` of every kind."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiops.sim.faults.cases import TWO, make_case, write_case
from aiops.sim.faults.kinds import KINDS


def main() -> None:
    """Write the cases; a progress bar goes to stderr."""
    from rich.console import Console
    from rich.progress import track

    parser = argparse.ArgumentParser(prog="python -m aiops.sim.faults", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=50, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first case of each kind")
    parser.add_argument("--types", default=",".join([*KINDS, TWO]), help="comma-separated kinds")
    parser.add_argument("--step", type=int, default=1, help="seconds between samples")
    args = parser.parse_args()
    kinds = args.types.split(",")
    unknown = sorted(set(kinds) - {*KINDS, TWO})
    if unknown:
        parser.error(f"unknown kind {unknown[0]!r}, expected some of {', '.join([*KINDS, TWO])}")
    if args.step < 1 or args.cases < 1:
        parser.error("--step and --cases must be at least 1")
    wanted = [(kind, args.seed + number) for kind in kinds for number in range(args.cases)]
    for kind, seed in track(wanted, description="cases", console=Console(stderr=True)):
        write_case(make_case(kind, seed, args.step), args.out)


if __name__ == "__main__":
    main()
