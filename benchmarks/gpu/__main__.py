"""The command line of the kit; see the package."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import benchmarks.gpu
from benchmarks.gpu.kit import ROOT, Kit, KitError
from benchmarks.gpu.sizes import FULL, SIZES
from benchmarks.quality.terminal import say

_PARTS = ("checks", "utilisation", "pieces")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run or report, and return the exit status: 1 also where a check failed."""
    given = _parser().parse_args(arguments)
    try:
        match given.action:
            case "prepare":
                return _prepare(given)
            case "run":
                return _run(given)
            case "report":
                return _report(given)
    except (KitError, TimeoutError) as error:
        say(str(error))
        return 1
    raise AssertionError(given.action)


def _prepare(given: argparse.Namespace) -> int:
    from benchmarks.gpu.prepare import prepare, prepare_tiny

    if given.tiny:
        written = prepare_tiny(given.to)
    else:
        written = prepare(given.to, given.data, before=given.before, wheels=given.wheels)
    for line in [f"{given.to} is a kit", *written.lines()]:
        say(line)
    return 0


def _run(given: argparse.Namespace) -> int:
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: the bench takes a GPU where there is one
    import torch

    from benchmarks.gpu.running import Options, run

    if given.device == "cuda" and not torch.cuda.is_available():
        raise KitError("PyTorch sees no GPU here. Try the kit without one by: run --tiny --device cpu --out FOLDER")
    if given.rows is not None and given.tokens is None:
        raise KitError("--rows needs --tokens: the length in the figures of the run that wrote the rows.")
    cores = len(os.sched_getaffinity(0))
    jobs = given.jobs or (max(1, cores // 2) if given.device == "cuda" else 1)
    options = Options(
        torch.device(given.device), tuple(given.only or _PARTS), given.minutes, given.tokens, given.rows, jobs
    )
    if not given.tiny:
        return 0 if run(Kit.open(given.kit), given.out, options, say) else 1
    from benchmarks.gpu.prepare import prepare_tiny

    with tempfile.TemporaryDirectory(prefix="gpu-kit-") as folder:
        prepare_tiny(Path(folder))
        return 0 if run(Kit.open(Path(folder)), given.out, options, say) else 1


def _report(given: argparse.Namespace) -> int:
    import dataclasses

    from benchmarks.quality.report import write_report
    from benchmarks.quality.rows import read_rows

    profile = dataclasses.replace(SIZES[given.profile].profile, tokens=given.tokens)
    for path in write_report(read_rows(given.rows), given.out, [profile]):
        say(f"wrote {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    prepare = actions.add_parser("prepare", help="make a kit")
    prepare.add_argument("--to", type=Path, default=ROOT / ".gpu-kit", help="folder of the kit (default: .gpu-kit)")
    prepare.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with corpus/ and tasks/"
    )
    prepare.add_argument("--before", metavar="COMMIT", help="measure the utilisation with this commit's code too")
    prepare.add_argument("--no-wheels", dest="wheels", action="store_false", help="download no wheels")
    prepare.add_argument("--tiny", action="store_true", help="a tiny random teacher and made-up rows, without wheels")
    run = actions.add_parser("run", help="run a kit")
    run.add_argument("--kit", type=Path, default=ROOT / ".gpu-kit", help="folder of the kit (default: .gpu-kit)")
    run.add_argument("--out", type=Path, required=True, help="folder of what comes back")
    run.add_argument("--only", action="append", choices=_PARTS, help="run only this part; may be given again")
    run.add_argument("--minutes", type=float, default=9.0, help="end within so many minutes (default: 9)")
    run.add_argument(
        "--tokens", type=int, help=f"length of each distillation (default: what fits, at most {FULL.profile.tokens:,})"
    )
    run.add_argument("--rows", type=Path, help="rows.parquet of an earlier run: its pieces are not run again")
    run.add_argument("--jobs", type=int, help="fine-tunings at a time (default: half of the cores; on a CPU 1)")
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run.add_argument("--tiny", action="store_true", help="make a tiny kit and run it")
    report = actions.add_parser("report", help="write tables and pictures from rows")
    report.add_argument("--rows", type=Path, required=True, help="rows.parquet of a run")
    report.add_argument("--tokens", type=int, required=True, help="the length in the run's figures")
    report.add_argument("--profile", choices=SIZES, default=FULL.profile.name)
    report.add_argument("--out", type=Path, required=True, help="folder of the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
