"""Forms: how a document's texts become one row, as the teacher's own library makes it.

An encoder reads bare text. A teacher with a head reads what its tokenizer makes of a whole text or pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.shapes.heads import Head


@dataclass(frozen=True)
class TextForm:
    """How a document becomes a row.

    Attributes:
        prompts: Texts to put before a document; each document gets one of them, by its hash.
        lowercase: Whether texts are put in lower case.
    """

    prompts: tuple[str, ...] = ("",)
    lowercase: bool = False

    def apply(self, texts: Sequence[str], digest: int) -> list[str]:
        """Return the texts to tokenise.

        Args:
            texts: A document's texts: one, or two of a pair.
            digest: The document's hash.
        """
        before = self.prompts[digest % len(self.prompts)]
        given = [f"{before}{texts[0]}", *texts[1:]]
        return [text.lower() for text in given] if self.lowercase else given


def form_of(head: Head | None) -> TextForm | None:
    """Return the form of a teacher's rows; None for an encoder."""
    return None if head is None else TextForm(head.texts_before, head.lowercase)
