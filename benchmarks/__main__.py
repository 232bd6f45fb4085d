"""The command line; see the package."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.rows import GROUPS
from benchmarks.run import run, table


def main() -> None:
    """Measure, or profile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(GROUPS)}; or: profile [driver|pool]")
    parser.add_argument("--rounds", type=int, help="7 by default")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure of every round")
    parser.add_argument("--quick", action="store_true", help="3 short rounds: to see that all runs")
    parser.add_argument("--callers", type=int, default=1, help="of a profile")
    parser.add_argument("--tells", action="store_true", help="profile tells, not calls")
    args = parser.parse_args()
    if args.names[:1] == ["profile"]:
        from benchmarks.profile import profile_calls

        print(profile_calls([*args.names, "driver"][1], args.callers, tells=args.tells))
        return
    unknown = set(args.names) - set(GROUPS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    groups = args.names or list(GROUPS)
    rounds = args.rounds or (3 if args.quick else 7)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("trio", "msgspec", "anyio"))
    print(
        f"Python {platform.python_version()}, {libraries}; {len(os.sched_getaffinity(0))} CPUs; {rounds} rounds"
    )
    print("median (min..max) of the rounds; ratios are medians of the rounds' own\n")
    results = run(groups, rounds, 0.3 if args.quick else 1.0)
    print(table(groups, results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
