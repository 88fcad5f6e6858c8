"""Lines of Python on a student's card, by the kind of its head."""

from __future__ import annotations

import functools

from workloads.shapes.heads import Head, LogitsHead, VectorHead


@functools.singledispatch
def use_lines(head: Head | None, folder: str, *, stock: bool) -> list[str]:
    """Return the lines that load a student with its head and use it.

    Args:
        head: The head; None for an encoder, which has no such lines.
        folder: The student's folder.
        stock: Whether stock classes express its shape.
    """
    return []


@use_lines.register
def _classifier(head: LogitsHead, folder: str, *, stock: bool) -> list[str]:
    trust = "" if stock else ", trust_remote_code=True"
    if head.pairs:
        return [
            "from sentence_transformers import CrossEncoder",
            f"model = CrossEncoder({folder!r}{trust})",
            'scores = model.predict([("A question?", "A sentence.")])',
        ]
    return [
        "from transformers import pipeline",
        f'classify = pipeline("{_TASKS[head.kind]}", {folder!r}{trust})',
        'answers = classify("A sentence.")',
    ]


_TASKS = {"classification": "text-classification", "token-classification": "token-classification"}


@use_lines.register
def _embedding(head: VectorHead, folder: str, *, stock: bool) -> list[str]:
    trust = "" if stock else ", trust_remote_code=True"
    return [
        "from sentence_transformers import SentenceTransformer",
        f"model = SentenceTransformer({folder!r}{trust})",
        'vectors = model.encode(["A sentence."])',
    ]
