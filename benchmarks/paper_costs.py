"""The cost functions against AutoDistil's printed table and against real modules.

    python -m benchmarks.paper_costs

For the four student rows and the teacher row of the paper (arXiv 2201.12507), the closed form is compared with the
printed figures, in units of the last printed digit. The exact count is compared with the parameters and the FLOP
counter of the module that a student of that shape is saved as. That is our own class, since the attention is wider or
narrower than the hidden size.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import record
from workloads.craft.stillroom_model.configuration_stillroom import StillroomConfig
from workloads.craft.stillroom_model.modeling_stillroom import StillroomModel
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import PAPER_SEQUENCE_LENGTH, paper_flops, paper_params, student_cost
from workloads.shapes.teacher_files import named_shape

# layers, hidden size, feed-forward ratio, heads; printed params and FLOPs, each with the unit of its last digit
ROWS = {
    "agnostic": ((11, 352, 4.0, 10), (26.8e6, 1e5), (2.13e9, 1e7)),
    "proxy small": ((11, 352, 4.0, 8), (26.1e6, 1e5), (2.02e9, 1e7)),
    "proxy tiny": ((7, 160, 3.5, 10), (6.88e6, 1e4), (0.27e9, 1e7)),
    "proxy base": ((12, 544, 3.0, 9), (50.1e6, 1e5), (4.40e9, 1e7)),
    "teacher": ((12, 768, 4.0, 12), (109e6, 1e6), (11.2e9, 1e8)),
}


def main() -> None:
    """Compare and record."""
    rows = {name: _row(*row) for name, row in ROWS.items()}
    units = [row[key] for row in rows.values() for key in ("params_off_by_units", "flops_off_by_units")]
    assert all(row["params"] == row["module_params"] for row in rows.values()), rows
    assert all(row["flops"] == row["module_flops"] for row in rows.values()), rows
    record(
        "paper_costs",
        value=max(units),
        unit="units of the last printed digit that the closed form is off by, the most of five rows",
        bar=1.0,
        spread=sorted(units),
        command="python -m benchmarks.paper_costs",
        rows=rows,
    )


def _row(
    shape: tuple[int, int, float, int], params: tuple[float, float], flops: tuple[float, float]
) -> dict[str, float]:
    layers, hidden, ratio, heads = shape
    bert = named_shape("bert-base")
    architecture = Architecture.alike(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        head_width=64,
        intermediate_size=int(hidden * ratio),
        teacher_layers=bert.layers,
    )
    cost = student_cost(bert, architecture, PAPER_SEQUENCE_LENGTH)
    module = StillroomModel(
        StillroomConfig(
            vocab_size=bert.vocabulary.vocab_size,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            head_width=64,
            intermediate_size=int(hidden * ratio),
            max_position_embeddings=bert.vocabulary.positions,
            type_vocab_size=bert.vocabulary.token_types,
            has_pooler=bert.vocabulary.pooler,
        )
    ).eval()
    counter = FlopCounterMode(display=False)
    # On a CPU the counter ignores fused attention, so use plain attention, which is two matrix products.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(torch.zeros(1, PAPER_SEQUENCE_LENGTH, dtype=torch.long))
    return {
        "printed_params": params[0],
        "closed_form_params": paper_params(layers, hidden, ratio, heads),
        "params_off_by_units": round(abs(paper_params(layers, hidden, ratio, heads) - params[0]) / params[1], 3),
        "printed_flops": flops[0],
        "closed_form_flops": paper_flops(layers, hidden, ratio, heads),
        "flops_off_by_units": round(abs(paper_flops(layers, hidden, ratio, heads) - flops[0]) / flops[1], 3),
        "params": cost.params,
        "module_params": sum(parameter.numel() for parameter in module.parameters()),
        "flops": cost.flops,
        "module_flops": counter.get_total_flops() // 2,
    }


if __name__ == "__main__":
    main()
