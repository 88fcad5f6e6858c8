"""The command line of the bench; see the package."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks.quality
from benchmarks.quality.planning import only_named, plan_of
from benchmarks.quality.profiles import PROFILES, Profile
from benchmarks.quality.rows import Rows, merge_files, read_rows
from benchmarks.quality.running import Limits, run, told
from benchmarks.quality.terminal import say
from benchmarks.record import RESULTS

_ROOT = Path(__file__).parents[2]
RESULTS_FILE, REPORT_FOLDER = RESULTS / "quality.parquet", RESULTS / "quality"
DATA_VARIABLE, WORK_VARIABLE = "STILLROOM_BENCH_DATA", "STILLROOM_BENCH_WORK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, list, report or merge, and return the exit status."""
    given = _parser().parse_args(arguments)
    match given.action:
        case "report":
            from benchmarks.quality.report import write_report

            for path in write_report(read_rows(given.results or RESULTS_FILE), given.out):
                say(f"wrote {path}")
            return 0
        case "merge":
            new = merge_files(given.results or RESULTS_FILE, given.files)
            say(f"{new} new rows")
            return 0
    profile = PROFILES[given.profile]
    made_up = profile.data == "made-up"
    results = given.results or (given.work / "quality.parquet" if made_up else RESULTS_FILE)
    if given.list:
        _list(profile, read_rows(results), given.only)
        return 0
    if made_up:
        from benchmarks.quality.made_up import made_up_places

        places = made_up_places(given.work)
    else:
        from benchmarks.quality.places import Places

        places = Places(given.work, given.data, given.teachers)
    limits = Limits(given.only, given.hours, given.jobs)
    try:
        complete = run(profile, places, results, limits, say)
    except KeyboardInterrupt:
        say("interrupted; finished pieces are kept, and the same command goes on")
        return 130
    except (LookupError, RuntimeError) as error:
        say(str(error))
        return 1
    say("all pieces are there" if complete else "stopped for lack of time; the same command goes on")
    return 0


def _list(profile: Profile, rows: Rows, only: str | None) -> None:
    plan = plan_of(profile, rows)
    pieces = only_named(plan.pieces.values(), only)
    for piece in pieces:
        row = rows.get(piece.fingerprint)
        state = "there" if row is not None else f"about {told(piece.seconds)}"
        sys.stdout.write(f"{state:>14}  {piece.kind:8} {piece.name}\n")
    for name in plan.later:
        sys.stdout.write(f"{'later':>14}  {name}\n")
    left = sum(piece.seconds for piece in pieces if piece.fingerprint not in rows)
    there = sum(piece.fingerprint in rows for piece in pieces)
    sys.stdout.write(f"{there} of {len(pieces)} known pieces are there; about {told(left)} of CPU for the others\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=benchmarks.quality.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="profiles:\n" + "\n".join(f"  {name:14} {one.what}" for name, one in PROFILES.items()),
    )
    parser.add_argument("action", nargs="?", choices=("run", "report", "merge"), default="run")
    parser.add_argument("files", nargs="*", type=Path, help="Parquet files of other machines (merge)")
    parser.add_argument("--profile", choices=PROFILES, default="two-cores")
    parser.add_argument("--only", metavar="NAME", help="only pieces whose names contain this, and what they need")
    parser.add_argument("--list", action="store_true", help="show the pieces and run none")
    parser.add_argument("--hours", type=float, help="begin no piece that would end later than so many hours from now")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="pieces at a time")
    parser.add_argument("--results", type=Path, help=f"Parquet file of the rows (default: {RESULTS_FILE})")
    parser.add_argument("--out", type=Path, default=REPORT_FOLDER, help="folder of the report")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(DATA_VARIABLE, _ROOT.parent / "shared" / "data")),
        help=f"folder with corpus/ and tasks/ (default: ${DATA_VARIABLE} or ../shared/data)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(os.environ.get(WORK_VARIABLE, _ROOT / ".bench-quality")),
        help=f"folder of trained weights (default: ${WORK_VARIABLE} or .bench-quality)",
    )
    parser.add_argument("--teachers", type=Path, help="folder of teachers that no installed package has")
    return parser


if __name__ == "__main__":
    sys.exit(main())
