"""The teacher's tokenizer, as one string and three ids: small enough to send, and hashed by what decides its result.

Only the driver needs the teacher's folder and `transformers`; workers build the tokenizer from the string.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as Backend

from workloads.craft.text.lines import parts_of
from workloads.spec.errors import InputError

_PIECE = 64 << 10
"""Characters tokenised at once: a MiB at once takes 100 MB more and half as long again, for the same tokens."""

_BACKENDS: dict[str, Backend] = {}  # by fingerprint; a worker process lives through many tasks


@dataclass(frozen=True)
class Tokenizer:
    """A fast tokenizer with the ids that rows are built with.

    Attributes:
        backend_json: The `tokenizers` library's own form, without truncation and padding.
        cls_id: Starts a row (``[CLS]``, ``<s>``).
        sep_id: Ends a row and parts documents (``[SEP]``, ``</s>``).
        pad_id: Fills a row.
    """

    backend_json: str
    cls_id: int
    sep_id: int
    pad_id: int

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer of a teacher's local folder.

        Raises:
            InputError: There is none, or it has no start, separator or padding token.
        """
        from transformers import AutoTokenizer

        problem = "it has no tokenizer files"
        try:
            loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            backend = Backend.from_str(loaded.backend_tokenizer.to_str())
            # Without any file transformers builds a tokenizer that knows its special tokens alone.
            found = any((folder / str(name)).is_file() for name in loaded.vocab_files_names.values())
        except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
            found, problem = False, " ".join(str(error).split())
        if not found:
            raise InputError.of(
                "teacher.model",
                f"The tokenizer of {folder} cannot be loaded: {problem}.",
                "Put the teacher's tokenizer files (tokenizer.json, tokenizer_config.json) into its folder.",
            )
        ids = {"cls": loaded.cls_token_id, "sep": loaded.sep_token_id, "pad": loaded.pad_token_id}
        if missing := [name for name, value in ids.items() if value is None]:
            raise InputError.of(
                "teacher.model",
                f"The tokenizer in {folder} has no {missing[0]}_token.",
                "Use an encoder's tokenizer, or name the token in tokenizer_config.json.",
            )
        # A tokenizer.json may carry truncation (to 128 tokens, say), which would silently drop most of a document.
        backend.no_truncation()
        backend.no_padding()
        return cls(backend.to_str(), ids["cls"], ids["sep"], ids["pad"])

    @functools.cached_property
    def fingerprint(self) -> str:
        """24 hexadecimal digits over everything that decides the tokens."""
        text = json.dumps([self.backend_json, self.cls_id, self.sep_id, self.pad_id])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def encode(self, text: str) -> Iterator[list[int]]:
        """Yield the token ids of a text piece by piece, without special tokens; pieces end at line ends."""
        if (backend := _BACKENDS.get(self.fingerprint)) is None:
            backend = _BACKENDS[self.fingerprint] = Backend.from_str(self.backend_json)
        for part in parts_of(text, _PIECE):
            yield backend.encode_batch_fast([part], add_special_tokens=False)[0].ids
