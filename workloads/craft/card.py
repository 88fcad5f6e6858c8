"""Model card of a student."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workloads.answers.exports import QuantisationReport
from workloads.answers.fidelity import CONFIDENCE, FIGURE_WORDS, Fidelity
from workloads.answers.latency import LatencyMeasure
from workloads.craft.card_lines import use_lines
from workloads.shapes import teacher_files
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.shapes.heads import Head, describe_head

RUNTIMES = {"eager": "PyTorch", "compiled": "torch.compile", "onnx": "ONNX Runtime"}
_CARD_CHARACTERS = 64 << 10
"""Most characters of a teacher's card that are read; its front matter comes first."""
_FOLDER = "path/to/this/folder"
_TAG = "stillroom"


@dataclass(frozen=True)
class CardFacts:
    """Facts on a student's card.

    Attributes:
        name: The card's title.
        teacher: The teacher's hub id or folder, as in the request.
        teacher_license: The teacher's licence, if known; see :func:`license_of`.
        corpus: Names of the corpora.
        documents: Number of training documents.
        tokens: Training tokens of the student's SuperLM.
        cost: Costs counted on the saved student.
        objective: The objective in words, such as ``kl relations (12 heads)``.
        heldout_loss: The objective's value on held-out text; None if it was not scored.
        output_trained: Whether the objective had a term on the output.
        fingerprints: Fingerprints of its source stages, by stage.
        pooler: Whether the student has a pooler.
        projection: Whether a learned output projection is saved beside it.
        polish_tokens: Training tokens of the student alone, after the SuperLM.
        picture: File name of the picture of candidates and front.
        picture_alt: Alternative text of the picture.
        latency: Latency on the target of the student's budget, if that has one.
        onnx: Whether ``model.onnx`` is saved beside it.
        head: Its head; None for an encoder.
        int8: Loss of ``model.int8.onnx``, if that is saved beside it.
        fidelity: Its fidelity to the teacher; None if that has no output to compare.
        tried_with: Versions of the libraries that the saved student was loaded with.
    """

    name: str
    teacher: str
    corpus: tuple[str, ...]
    documents: int
    tokens: int
    method: str
    family: str
    architecture: Architecture
    cost: Cost
    objective: str
    heldout_loss: float | None
    output_trained: bool
    seed: int
    pooler: bool = True
    projection: bool = False
    teacher_license: str | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    polish_tokens: int | None = None
    picture: str | None = None
    picture_alt: str = ""
    latency: LatencyMeasure | None = None
    onnx: bool = False
    head: Head | None = None
    int8: QuantisationReport | None = None
    fidelity: Fidelity | None = None
    tried_with: dict[str, str] = field(default_factory=dict)


def license_of(teacher_folder: Path) -> str | None:
    """Read the licence from the front matter of a teacher's model card; None if it has none."""
    found = _front_matter_of(teacher_folder).get("license")
    return found if isinstance(found, str) else None


def is_ours(folder: Path) -> bool:
    """Whether the model card in a folder is that of a student."""
    tags = _front_matter_of(folder).get("tags")
    return isinstance(tags, list) and _TAG in tags


def _front_matter_of(folder: Path) -> dict[str, Any]:
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_CHARACTERS)
        match = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        header = yaml.safe_load(match.group(1)) if match else None
    except (OSError, RecursionError, ValueError, yaml.YAMLError):  # a card may hold anything; nothing depends on it
        return {}
    return header if isinstance(header, dict) else {}


def load_lines(architecture: Architecture, folder: str, *, pooler: bool = True) -> list[str]:
    """Return the three lines of Python that load a student and its tokenizer.

    Args:
        architecture: The student's architecture.
        folder: The student's folder.
        pooler: Whether it has a pooler; a stock class would add a missing one with random weights.
    """
    # AutoTokenizer reads the model's configuration; that of our own class needs the user's consent too.
    trust = "" if architecture.stock else ", trust_remote_code=True"
    bare = ", add_pooling_layer=False" if architecture.stock and not pooler else ""
    return [
        "from transformers import AutoModel, AutoTokenizer",
        f"model = AutoModel.from_pretrained({folder!r}{trust}{bare})",
        f"tokenizer = AutoTokenizer.from_pretrained({folder!r}{trust})",
    ]


def embedding_lines(folder: str) -> list[str]:
    """Return the lines that embed texts with a loaded student and its projection, in the teacher's space."""
    return [
        "import torch",
        "from safetensors.torch import load_file",
        f"projection = load_file({f'{folder}/projection.safetensors'!r})",
        'batch = tokenizer(["A sentence."], padding=True, return_tensors="pt")',
        "with torch.inference_mode():",
        "    output = model(**batch).last_hidden_state",
        'mask = batch["attention_mask"].unsqueeze(-1)',
        "pooled = (output * mask).sum(1) / mask.sum(1)",
        'embedding = torch.nn.functional.linear(pooled, projection["weight"], projection["bias"])',
    ]


def onnx_lines(folder: str, head: Head | None = None) -> list[str]:
    """Return the lines that run a student's ONNX file; its tokenizer is loaded already if it has no head."""
    output = "last_hidden_state" if head is None else head.output_name
    tokenizer = [
        "from transformers import AutoTokenizer",
        f"tokenizer = AutoTokenizer.from_pretrained({folder!r})",
    ]
    return [
        *(tokenizer if head is not None else []),
        "import onnxruntime",
        f"session = onnxruntime.InferenceSession({f'{folder}/model.onnx'!r})",
        'batch = tokenizer(["A sentence."], padding=True, return_tensors="np")',
        f'output = session.run(["{output}"], dict(batch))[0]',
    ]


def render(facts: CardFacts, folder: str = _FOLDER) -> str:
    """Write the card: YAML front matter and Markdown.

    Args:
        facts: Facts of the card.
        folder: Path in the lines that load the student.
    """
    shape, cost = facts.architecture.to_json(), facts.cost
    loss = "not scored" if facts.heldout_loss is None else f"{facts.heldout_loss:.4f}"
    rows = {
        "Teacher": facts.teacher,
        "Text": _text(facts),
        "Method": facts.method,
        **({"Kind": f"{facts.head.kind}: {describe_head(facts.head)}"} if facts.head is not None else {}),
        "Layers": shape["layers"],
        "Hidden size": shape["hidden_size"],
        "Heads": f"{shape['heads']} of width {shape['head_width']}",
        "Feed-forward width": shape["intermediate_size"],
        "Teacher layers it started from": shape["source_layers"],
        "Parameters": f"{cost.params:,} ({cost.params_without_embeddings:,} without embedding tables)",
        "FLOPs": f"{cost.flops:,} multiply-accumulates for one sequence of {cost.sequence_length} tokens",
        "Memory": _memory(cost),
        "Objective": facts.objective,
        "Held-out loss": f"{loss} (of that objective)",
        "Seed": facts.seed,
        **({"Loaded with": _versions(facts.tried_with)} if facts.tried_with else {}),
    } | {f"Fingerprint: {stage}": f"`{value}`" for stage, value in facts.fingerprints.items()}
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False)}---",
        f"# {facts.name}",
        "A small model distilled by stillroom from a larger one.",
        _table(("", ""), rows.items()),
        "## How to load it",
        _code(
            use_lines(facts.head, folder, stock=facts.architecture.stock)
            or load_lines(facts.architecture, folder, pooler=facts.pooler)
        ),
    ]
    if facts.projection:
        parts += [
            "Mean-pool its output and apply the learned projection to come to the teacher's embedding space:",
            _code(embedding_lines(folder)),
        ]
    parts += [*_fidelity(facts), *_frontier(facts), *_latency(facts), *_onnx(facts, folder)]
    return "\n\n".join([*parts, "## Limits", "\n".join(f"- {limit}" for limit in _limits(facts)), ""])


def _text(facts: CardFacts) -> str:
    polish = "" if facts.polish_tokens is None else f", then alone for {facts.polish_tokens:,}"
    return f"{', '.join(facts.corpus)}: {facts.documents:,} documents, trained for {facts.tokens:,} tokens{polish}"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _memory(cost: Cost) -> str:
    return (
        f"{cost.weight_bytes('float32'):,} bytes of weights and at the peak {cost.activation_bytes:,} bytes of "
        "activations of such a sequence, in float32"
    )


def _fidelity(facts: CardFacts) -> list[str]:
    if facts.fidelity is None:
        return []
    found = facts.fidelity
    rows = []
    for name, value in found.figures.items():
        ends = found.interval.get(name)
        rows.append((FIGURE_WORDS[name], f"{value:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "not measured"))
    parts = [
        "## Fidelity to the teacher",
        f"Measured as exported, on {found.rows:,} held-out rows, with bootstrap intervals of {CONFIDENCE:.0%}.",
        _table(("", "", "Interval"), rows),
    ]
    if found.per_class is not None:
        of_classes = [
            (_plain(name), f"{one.count:,}", "" if one.agreement is None else f"{one.agreement:.4f}")
            for name, one in found.per_class.items()
        ]
        parts.append(_table(("Label of the teacher", "Count", "Share with the same label"), of_classes))
    return parts


def _plain(name: str) -> str:
    return re.sub(r"([\\\[\]|`*_<])", r"\\\1", " ".join(name.split()))


def _frontier(facts: CardFacts) -> list[str]:
    if facts.picture is None:
        return []
    alt = re.sub(r"([\\\[\]])", r"\\\1", facts.picture_alt)
    return ["## Loss against cost", f"![{alt}]({facts.picture})"]


def _latency(facts: CardFacts) -> list[str]:
    if facts.latency is None:
        return []
    measure, target = facts.latency, facts.latency.target
    threads = f"{target.threads} thread{'s' if target.threads > 1 else ''}"
    where = f"{target.device}, {threads}, {target.dtype}, {RUNTIMES[target.runtime]}"
    rows = {
        "Target": f"{target.name}: {where}, {target.batch_size} x {target.sequence_length} tokens",
        "Device": measure.device,
        "Median (p50)": f"{measure.p50_ms:.3g} ms",
        "95th percentile (p95)": f"{measure.p95_ms:.3g} ms",
        "Spread": f"{measure.spread:.1%} (interquartile range over the median)",
        "Teacher's median": f"{measure.teacher_p50_ms:.3g} ms",
        "Speed-up": f"{measure.speed_up:.2f} times as fast as the teacher",
        "Measured": f"{measure.measured_at}, {_versions(measure.versions)}",
    }
    noisy = "The two repeats of the measurement differ by more than 10 %: other work disturbed the machine."
    words = "Times of one forward pass."
    return ["## Latency", words, _table(("", ""), rows.items()), *([] if measure.agrees else [noisy])]


def _onnx(facts: CardFacts, folder: str) -> list[str]:
    if not facts.onnx:
        return []
    parts = [
        "## ONNX",
        "`model.onnx` takes any number of rows and tokens, and was checked against PyTorch.",
        _code(onnx_lines(folder, facts.head)),
    ]
    if facts.int8 is not None:
        report = facts.int8
        smaller = report.float32_bytes / report.int8_bytes
        rows = [
            (name, "" if cosine is None else f"{cosine:.4f}", f"{error:.2%}") for name, cosine, error in report.outputs
        ]
        worst = report.pooled_cosine_worst
        lowest = "" if worst is None else f"; the lowest mean-pooled cosine of a row is {worst:.4f}"
        parts += [
            f"`model.int8.onnx` is used in the same way and is {smaller:.1f} times smaller "
            f"({report.int8_bytes:,} instead of {report.float32_bytes:,} bytes). It was compared with `model.onnx` on "
            f"{report.rows:,} held-out rows ({report.tokens:,} tokens){lowest}:",
            _table(("Output", "Cosine", "Relative error"), rows),
        ]
    return parts


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    library = "transformers" if facts.head is None else facts.head.library
    header: dict[str, Any] = {"library_name": library, "tags": [_TAG, "distillation", facts.family]}
    if facts.teacher_license is not None:
        header["license"] = facts.teacher_license
    if not teacher_files.is_path(facts.teacher):  # the hub accepts only its own ids here
        header["base_model"] = facts.teacher
    return header


def _limits(facts: CardFacts) -> list[str]:
    limits = [
        "It was trained on the text named above only. The held-out loss is measured on text of the same source; it is "
        "not the score of a task."
    ]
    if facts.head is not None:
        limits.append("It gives what its teacher gives, right or wrong; it was never compared with labels.")
    elif not facts.output_trained:
        limits.append(
            "It was trained on attention relations only, which do not train the attention output and the feed-forward "
            "network of the last layer. Fine-tune it before use: its output is not an embedding."
        )
    elif facts.projection:
        limits.append("Its output matches the teacher's only after the projection that is saved beside it.")
    if not facts.pooler and facts.head is None:
        limits.append("It has no pooler, neither in the file nor in the parameter count; use `last_hidden_state`.")
        if facts.architecture.stock:
            limits.append(
                "Load it with `add_pooling_layer=False`; otherwise the stock class adds a random pooler of "
                f"{facts.architecture.hidden_size * (facts.architecture.hidden_size + 1):,} parameters."
            )
    if not facts.architecture.stock:
        limits.append("Loading it runs the modelling file beside it (`trust_remote_code=True`); read it first.")
    return limits


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])
