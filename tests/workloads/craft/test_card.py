from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from workloads.answers.exports import QuantisationReport
from workloads.answers.fidelity import ClassFidelity, Fidelity
from workloads.answers.latency import LatencyMeasure
from workloads.craft.card import CardFacts, license_of, load_lines, render
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.budgets import LatencyTarget

STOCK = Architecture.alike(layers=4, hidden_size=128, heads=4, head_width=32, intermediate_size=384, teacher_layers=6)
PAPER = Architecture.alike(layers=4, hidden_size=128, heads=7, head_width=64, intermediate_size=256, teacher_layers=12)

FACTS = CardFacts(
    name="edge",
    teacher="sentence-transformers/all-MiniLM-L6-v2",
    teacher_license="apache-2.0",
    corpus=("sotu",),
    documents=240,
    tokens=163_840,
    method="autodistil",
    family="bert",
    architecture=STOCK,
    cost=Cost(5_000_000, 1_000_000, 120_000_000, 128, 3_000_000),
    objective="kl relations (12 heads)",
    heldout_loss=0.27,
    output_trained=False,
    seed=7,
    fingerprints={"superlm": "abc123"},
)


def test_the_card_tells_where_the_student_comes_from() -> None:
    text = render(FACTS)
    header = yaml.safe_load(text.split("---")[1])
    assert header == {
        "library_name": "transformers",
        "tags": ["stillroom", "distillation", "bert"],
        "license": "apache-2.0",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    }
    for fact in (
        "sotu: 240 documents",
        "163,840 tokens",
        "5,000,000",
        "120,000,000",
        "128 tokens",
        "20,000,000 bytes of weights and at the peak 3,000,000 bytes of activations",
        "0.2700",
        "`abc123`",
    ):
        assert fact in text
    assert "Fine-tune it before use" in text


def test_a_teacher_from_a_folder_is_no_base_model_and_an_unknown_licence_is_left_out() -> None:
    header = yaml.safe_load(render(replace(FACTS, teacher="/models/mine", teacher_license=None)).split("---")[1])
    assert set(header) == {"library_name", "tags"}


def test_only_shapes_with_a_modelling_file_ask_for_trust() -> None:
    assert "trust_remote_code" not in render(FACTS)
    assert load_lines(PAPER, "out") == [
        "from transformers import AutoModel, AutoTokenizer",
        "model = AutoModel.from_pretrained('out', trust_remote_code=True)",
        "tokenizer = AutoTokenizer.from_pretrained('out', trust_remote_code=True)",
    ]
    assert "read it first" in render(replace(FACTS, architecture=PAPER))


def test_limits_follow_what_was_trained() -> None:
    untrained = "its output is not an embedding"
    assert untrained not in render(replace(FACTS, output_trained=True))
    assert untrained in render(replace(FACTS, output_trained=False))
    without = render(replace(FACTS, pooler=False))
    assert (
        "It has no pooler" in without and "from_pretrained('path/to/this/folder', add_pooling_layer=False)" in without
    )
    assert "adds a random pooler of 16,512 parameters" in without
    assert "add_pooling_layer" not in render(replace(FACTS, pooler=False, architecture=PAPER)) + render(FACTS)
    assert "not scored" in render(replace(FACTS, heldout_loss=None))


def test_the_licence_is_read_from_the_teachers_card(tmp_path: Path) -> None:
    assert license_of(tmp_path) is None
    card = tmp_path / "README.md"
    for text, found in [
        ("---\nlicense: mit\ntags: [a]\n---\n# A model", "mit"),
        ("# No front matter", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\n: {\n---\n", None),
    ]:
        card.write_text(text)
        assert license_of(tmp_path) == found


LATENCY = LatencyMeasure(
    target=LatencyTarget(name="pi", threads=4, runtime="onnx"),
    p50_ms=12.345,
    p95_ms=15.0,
    spread=0.025,
    repeats_p50_ms=[12.3, 12.4],
    agrees=True,
    teacher_p50_ms=43.2,
    teacher_repeats_p50_ms=[43.2, 43.2],
    speed_up=3.5,
    device="A CPU",
    versions={"torch": "2.9"},
    measured_at="2026-11-21",
)
INT8 = QuantisationReport(
    float32_bytes=20_000_000,
    int8_bytes=5_000_000,
    rows=128,
    tokens=8_192,
    hidden_cosine=0.98765,
    hidden_error=0.1512,
    pooled_cosine=0.9912,
    pooled_cosine_worst=0.9799,
    pooled_error=0.1201,
)


def sections(facts: CardFacts) -> dict[str, str]:
    """The card's sections by title, the front matter and the table of facts left out."""
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in render(facts).split("\n## ")[1:]}


def test_sections_on_pictures_latencies_and_onnx_are_there_only_where_given() -> None:
    assert list(sections(FACTS)) == ["How to load it", "Limits"]
    rich = replace(FACTS, picture="frontier.png", latency=LATENCY, onnx=True)
    titles = ["How to load it", "Loss against cost", "Latency", "ONNX", "Limits"]
    assert list(sections(rich)) == titles
    assert "int8" not in render(rich)
    assert "then alone" not in render(rich)


def test_a_polished_student_says_for_how_long() -> None:
    text = render(replace(FACTS, polish_tokens=1_000_000))
    assert "240 documents, trained for 163,840 tokens, then alone for 1,000,000 |" in text


def test_the_picture_is_shown_with_its_words() -> None:
    facts = replace(FACTS, picture="frontier.png", picture_alt="Loss of 12 candidates [all]. Chosen: edge.")
    assert sections(facts)["Loss against cost"].strip() == (
        "![Loss of 12 candidates \\[all\\]. Chosen: edge.](frontier.png)"
    )


def test_a_latency_says_where_it_holds_and_how_it_stands_to_the_teacher() -> None:
    assert sections(replace(FACTS, latency=LATENCY))["Latency"].strip().splitlines()[2:] == [
        "|  |  |",
        "| --- | --- |",
        "| Target | pi: cpu, 4 threads, float32, ONNX Runtime, 1 x 128 tokens |",
        "| Device | A CPU |",
        "| Median (p50) | 12.3 ms |",
        "| 95th percentile (p95) | 15 ms |",
        "| Spread | 2.5% (interquartile range over the median) |",
        "| Teacher's median | 43.2 ms |",
        "| Speed-up | 3.50 times as fast as the teacher |",
        "| Measured | 2026-11-21, torch 2.9 |",
    ]
    noisy = LATENCY.model_copy(update={"agrees": False})
    assert "other work disturbed the machine" in sections(replace(FACTS, latency=noisy))["Latency"]


def test_the_int8_file_comes_with_what_it_saves_and_loses() -> None:
    text = sections(replace(FACTS, onnx=True, int8=INT8))["ONNX"]
    for part in (
        "4.0 times smaller (5,000,000 instead of 20,000,000 bytes)",
        "128 held-out rows (8,192 tokens)",
        "cosine of a row is 0.9799",
        "| Last hidden states | 0.9877 | 15.12% |",
        "| Mean-pooled | 0.9912 | 12.01% |",
    ):
        assert part in text


def test_the_card_says_which_versions_loaded_the_student() -> None:
    assert "Loaded with" not in render(FACTS)
    assert "| Loaded with | transformers 9.8, torch 7.6 |" in render(
        replace(FACTS, tried_with={"transformers": "9.8", "torch": "7.6"})
    )


@pytest.mark.parametrize("front", [b"license: \xff\xfe", b"a: " + b"[" * 5000, b"license: [1]", b"&a [*a]"])
def test_a_card_of_the_teacher_that_says_nothing_is_no_error(tmp_path: Path, front: bytes) -> None:
    (tmp_path / "README.md").write_bytes(b"---\n" + front + b"\n---\n")
    assert license_of(tmp_path) in {None, "\ufffd\ufffd"}


def test_the_card_tells_the_fidelity_with_its_interval_and_by_label() -> None:
    assert "Fidelity" not in render(FACTS)
    fidelity = Fidelity(
        rows=2000,
        agreement=0.9731,
        kl=0.0412,
        per_class={
            "good | *very*": ClassFidelity(count=1200, agreement=0.98),
            "never": ClassFidelity(count=0, agreement=None),
        },
        interval={"agreement": (0.966, 0.9802)},
    )
    text = render(replace(FACTS, fidelity=fidelity))
    assert "on 2,000 held-out rows" in text
    assert "| Same label as the teacher | 0.9731 | 0.9660 to 0.9802 |" in text
    assert "| KL divergence of the probabilities, nats | 0.0412 | not measured |" in text
    assert r"| good \| \*very\* | 1,200 | 0.9800 |" in text
    assert "| never | 0 |  |" in text
