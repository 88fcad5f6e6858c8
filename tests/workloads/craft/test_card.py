from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from workloads.architecture import Architecture
from workloads.costs import Cost
from workloads.craft.card import CardFacts, license_of, load_lines, render

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
    cost=Cost(5_000_000, 1_000_000, 120_000_000, 128),
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
        "0.2700",
        "`abc123`",
    ):
        assert fact in text
    assert "start for fine-tuning" in text


def test_a_teacher_from_a_folder_is_no_base_model_and_an_unknown_licence_is_left_out() -> None:
    header = yaml.safe_load(render(replace(FACTS, teacher="/models/mine", teacher_license=None)).split("---")[1])
    assert set(header) == {"library_name", "tags"}


def test_only_shapes_with_a_modelling_file_ask_for_trust() -> None:
    assert "trust_remote_code" not in render(FACTS)
    assert load_lines(PAPER, "out") == [
        "from transformers import AutoModel, AutoTokenizer",
        "model = AutoModel.from_pretrained('out', trust_remote_code=True)",
        "tokenizer = AutoTokenizer.from_pretrained('out')",
    ]
    assert "read it first" in render(replace(FACTS, architecture=PAPER))


def test_limits_follow_what_was_trained() -> None:
    assert "no embedding" not in render(replace(FACTS, output_trained=True))
    assert "There is no pooler" in render(replace(FACTS, pooler=False))
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
