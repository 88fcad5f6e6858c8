"""``stillroom cost``: what a student of a shape would cost, from the closed forms, without any training."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import Json


@told_plainly
def cost(
    teacher: Annotated[str, typer.Option(help="A folder, or a name such as bert-base.")],
    layers: Annotated[int, typer.Option(min=1, help="Depth.")],
    hidden: Annotated[int, typer.Option(min=1, help="Hidden size.")],
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")],
    mlp_ratio: Annotated[float, typer.Option(min=0.01, help="Feed-forward width over hidden size.")] = 4.0,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens that FLOPs are counted at.")] = 128,
    head_width: Annotated[int | None, typer.Option(min=1, help="Width of a head; default: the teacher's.")] = None,
    json: Json = False,
) -> None:
    """Count the parameters and multiply-accumulates of a student, exactly and by the paper's closed forms."""
    from workloads.architecture import Architecture
    from workloads.costs import paper_flops, paper_params, student_cost
    from workloads.errors import InputError
    from workloads.teacher_files import named_shape

    shape = named_shape(teacher)
    if layers > shape.layers:
        raise InputError.of("layers", f"{teacher} has only {shape.layers} layers.", "Give no more than that.")
    architecture = Architecture.alike(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        head_width=head_width or shape.head_width,
        intermediate_size=round(hidden * mlp_ratio),
        teacher_layers=shape.layers,
    )
    counted = student_cost(shape, architecture, sequence_length)
    document = {
        "params": counted.params,
        "params_without_embeddings": counted.params_without_embeddings,
        "flops": counted.flops,
        "sequence_length": counted.sequence_length,
        "paper_params": paper_params(layers, hidden, mlp_ratio, heads),
        "paper_flops": paper_flops(layers, hidden, mlp_ratio, heads),
        "architecture": architecture.to_json(),
        "teacher": teacher,
    }
    if json:
        typer.echo(json_module.dumps(document, indent=1))
        return
    typer.echo(f"shape         {architecture.describe()}")
    typer.echo(f"params        {counted.params:,} ({counted.params_without_embeddings:,} without embeddings)")
    typer.echo(f"FLOPs         {counted.flops:,} multiply-accumulates at {sequence_length} tokens")
    typer.echo(f"paper's forms {document['paper_params']:,} params, {document['paper_flops']:,} FLOPs at 128 tokens")
