"""``stillroom cost``: costs of a student, counted from its shape, without training."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.options import Json


@reports_failures
def cost(
    teacher: Annotated[str, typer.Option(help="A folder, or a name such as bert-base.")],
    layers: Annotated[int, typer.Option(min=1, help="Depth.")],
    hidden: Annotated[int, typer.Option(min=1, help="Hidden size.")],
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")],
    mlp_ratio: Annotated[float, typer.Option(min=0.01, help="Feed-forward width divided by hidden size.")] = 4.0,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens that FLOPs and activations are counted at.",
            show_default="128, or the teacher's longest input if shorter",
        ),
    ] = None,
    head_width: Annotated[int | None, typer.Option(min=1, help="Width of a head; default: the teacher's.")] = None,
    json: Json = False,
) -> None:
    """Count the costs of a student exactly, and for bert-base also by the paper's closed forms."""
    from workloads.shapes.architecture import Architecture
    from workloads.shapes.costs import BYTES, paper_flops, paper_params, student_cost
    from workloads.shapes.teacher_files import named_shape
    from workloads.spec.errors import InputError
    from workloads.spec.lengths import too_long
    from workloads.spec.part import default_length

    shape = named_shape(teacher)
    if layers > shape.layers:
        raise InputError.of("layers", f"{teacher} has only {shape.layers} layers.", "Use at most that.")
    sequence_length = sequence_length or default_length(shape.longest)
    if sequence_length > shape.longest:
        raise InputError([too_long("sequence_length", sequence_length, shape.longest)])
    architecture = Architecture.alike(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        head_width=head_width or shape.head_width,
        intermediate_size=round(hidden * mlp_ratio),
        teacher_layers=shape.layers,
    )
    counted = student_cost(shape, architecture, sequence_length)
    weights = {dtype: counted.weight_bytes(dtype) for dtype in BYTES}
    document = {
        "params": counted.params,
        "params_without_embeddings": counted.params_without_embeddings,
        "flops": counted.flops,
        "sequence_length": counted.sequence_length,
        "weight_bytes": weights,
        "activation_bytes": counted.activation_bytes,
        "architecture": architecture.to_json(),
        "teacher": teacher,
    }
    # The closed forms hold constants of bert-base and are wrong for other teachers.
    forms = shape == named_shape("bert-base")
    if forms:
        document["paper_params"] = paper_params(layers, hidden, mlp_ratio, heads)
        document["paper_flops"] = paper_flops(layers, hidden, mlp_ratio, heads)
    if json:
        typer.echo(json_module.dumps(document, indent=1))
        return
    typer.echo(f"shape         {architecture.describe()}")
    typer.echo(f"params        {counted.params:,} ({counted.params_without_embeddings:,} without embeddings)")
    typer.echo(f"FLOPs         {counted.flops:,} multiply-accumulates at {sequence_length} tokens")
    typer.echo(f"weights       {', '.join(f'{size:,} bytes in {dtype}' for dtype, size in weights.items())}")
    typer.echo(f"activations   {counted.activation_bytes:,} bytes at {sequence_length} tokens, float32")
    if forms:
        typer.echo(
            f"paper's forms {document['paper_params']:,} params, {document['paper_flops']:,} FLOPs at 128 tokens"
        )
