"""A run of the kit: checks, utilisation and pieces, each within its time."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging

from benchmarks.gpu.checks import Checks
from benchmarks.gpu.figures import Figures
from benchmarks.gpu.kit import BEFORE, ROOT, Kit
from benchmarks.gpu.paces import Deadline
from benchmarks.gpu.pieces import ROWS, Limits, Run, Say
from benchmarks.gpu.subjects import teacher_in
from benchmarks.gpu.utilisation import figures as utilisation_figures
from benchmarks.gpu.utilisation import matrix_tflops
from workloads.craft.precision import set_up_torch

PARTS = ("checks", "utilisation", "pieces")
FIRST_SECONDS = 240.0
"""Most seconds of the checks and the utilisation together."""
_END_SECONDS = 15.0
"""Kept free at the end of a run, so that what it wrote comes back."""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        device: The device.
        parts: Parts to run.
        minutes: Minutes of the whole run.
        tokens: Length of every distillation; None for what fits.
        rows: Rows of an earlier run, whose pieces are not run again.
        jobs: Fine-tunings at a time.
    """

    device: torch.device
    parts: tuple[str, ...] = PARTS
    minutes: float = 9.0
    tokens: int | None = None
    rows: Path | None = None
    jobs: int = 1


def run(kit: Kit, out: Path, options: Options, say: Say) -> bool:
    """Run the parts and write what they give into a folder; tell whether every check passed and no piece failed.

    Raises:
        TimeoutError: There is no time for a piece.
    """
    end = Deadline.after(60 * options.minutes - _END_SECONDS)
    first = Deadline.after(min(end.left, FIRST_SECONDS))
    logging.disable_progress_bar()
    set_up_torch(torch.get_num_threads())
    out.mkdir(parents=True, exist_ok=True)
    if options.rows is not None:
        shutil.copyfile(options.rows, out / ROWS)
    figures = Figures(out, kit, options.device)
    say(f"on {figures.card or 'a CPU'}: {', '.join(options.parts)}")
    passed = True
    if "checks" in options.parts:
        passed = _check(kit, options, figures, say)
    if "utilisation" in options.parts:
        _measure(kit, out, options, first, figures, say)
    if "pieces" in options.parts:
        with tempfile.TemporaryDirectory(prefix="gpu-kit-") as work:
            limits = Limits(end, options.tokens, options.jobs)
            passed &= Run(kit, Path(work), out, figures, options.device).run(limits, say)
    return passed


def _check(kit: Kit, options: Options, figures: Figures, say: Say) -> bool:
    passed = True
    with _full_float32():
        for check in Checks(teacher_in(kit.teacher, options.device), kit.sizes):
            started = time.monotonic()
            for found in check():
                passed &= found.passed
                figures.add("checks", found.to_json())
                verdict = "passed" if found.passed else "FAILED"
                say(f"{verdict}: {found.name}: {found.difference:.2g}, at most {found.bound:g}")
            figures.add("check_seconds", round(time.monotonic() - started, 3))
    return passed


def _measure(kit: Kit, out: Path, options: Options, end: Deadline, figures: Figures, say: Say) -> None:
    if (kit.folder / BEFORE).is_dir() and not kit.uses_code_before:
        _measure_before(kit, out, options, end, say)
    figures.note("matrix_tflops", matrix_tflops(kit.sizes.matrix, options.device))
    for figure in utilisation_figures(teacher_in(kit.teacher, options.device), kit.sizes, figures.card):
        figures.add("utilisation", figure)
        share = f", {figure['share_of_peak']:.1%} of the peak" if "share_of_peak" in figure else ""
        say(
            f"{figure['teacher']}, {' and '.join(figure['members'])}, {figure['rows']} x {figure['length']}: "
            f"{figure['tflops']:.3g} TFLOP/s{share}"
        )
        if end.left <= 0:
            say("no time for the other measures")
            figures.note("utilisation_is_whole", False)
            return
    figures.note("utilisation_is_whole", True)


def _measure_before(kit: Kit, out: Path, options: Options, end: Deadline, say: Say) -> None:
    """Measure with the code of another commit, in a process of its own, in half of the time."""
    command = [sys.executable, "-P", "-m", "benchmarks.gpu", "run", "--kit", str(kit.folder.resolve())]
    command += ["--out", str((out / BEFORE).resolve()), "--only", "utilisation", "--device", options.device.type]
    command += ["--minutes", str((end.left / 2 + _END_SECONDS) / 60)]
    path = os.pathsep.join([str((kit.folder / BEFORE).resolve()), str(ROOT), os.environ.get("PYTHONPATH", "")])
    say("first with the code of the commit before")
    code = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
    if code:
        say(f"the code of the commit before could not be measured: it ended with {code}")


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Compute float32 products in float32: the checks compare others with them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
