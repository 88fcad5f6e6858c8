"""The teacher's tokenizer, as one string and three ids: small enough to send, and easy to hash.

Only the driver needs the teacher's folder and `transformers`. Workers build the tokenizer from the string.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as Backend

from workloads.craft.text.lines import parts_of
from workloads.shapes.teacher_config import FAMILIES, encoder_settings
from workloads.shapes.teacher_folder import CONFIG, TeacherFolder
from workloads.spec.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_PIECE = 64 << 10
"""Characters tokenised at once; a MiB at once gives the same tokens but takes 100 MB more and 1.5 times as long."""

_FIELD = "teacher.model"
_REMEDY = "Write it again with AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
_BACKENDS: dict[tuple[str, int | None], Backend] = {}  # by fingerprint and length; a worker process runs many tasks


@dataclass(frozen=True)
class Tokenizer:
    """A fast tokenizer with the special ids of rows.

    Attributes:
        backend_json: The `tokenizers` library's JSON, without truncation and padding.
        cls_id: Id of the token that starts a row (``[CLS]``, ``<s>``).
        sep_id: Id of the token that ends a row and separates documents (``[SEP]``, ``</s>``).
        pad_id: Id of the token that fills a row.
        cuts_left: Whether texts that are too long lose their first tokens, not their last.
    """

    backend_json: str
    cls_id: int
    sep_id: int
    pad_id: int
    cuts_left: bool = False

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer of a teacher's local folder.

        Raises:
            InputError: The tokenizer cannot be read, or has no start, separator or padding token.
        """
        loaded = open_tokenizer(folder)
        backend = Backend.from_str(loaded.backend_tokenizer.to_str())
        ids = {"cls": loaded.cls_token_id, "sep": loaded.sep_token_id, "pad": loaded.pad_token_id}
        if missing := [name for name, value in ids.items() if value is None]:
            raise InputError.of(
                "teacher.model",
                f"The tokenizer in {folder} has no {missing[0]}_token.",
                "Use an encoder's tokenizer, or name the token in tokenizer_config.json.",
            )
        # A tokenizer.json may set truncation (such as 128 tokens), which would silently drop most of a document.
        backend.no_truncation()
        backend.no_padding()
        cuts_left = loaded.truncation_side == "left"
        return cls(backend.to_str(), ids["cls"], ids["sep"], ids["pad"], cuts_left)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the tokens: 24 hexadecimal digits."""
        parts = [self.backend_json, self.cls_id, self.sep_id, self.pad_id, *(["left"] if self.cuts_left else [])]
        text = json.dumps(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def encode(self, text: str) -> Iterator[list[int]]:
        """Yield the token ids of a text piece by piece, without special tokens; pieces end at line ends if possible."""
        backend = self._backend(None)
        for part in parts_of(text, _PIECE):
            yield backend.encode_batch_fast([part], add_special_tokens=False)[0].ids

    def encode_whole(self, texts: Sequence[str], length: int) -> tuple[list[int], int]:
        """Encode a text, or a pair of them, with special tokens, as the teacher's own tokenizer does.

        Args:
            texts: One or two texts.
            length: Most tokens; of a pair, the longer text is cut first.

        Returns:
            The ids, and the place of the first token of type 1; their number if there is none.
        """
        # Cutting drops tokens at one end only, so a very long text need not be tokenised whole.
        keep = slice(-_PIECE, None) if self.cuts_left else slice(_PIECE)
        first, second_text = texts[0][keep], texts[1][keep] if len(texts) > 1 else None
        found = self._backend(length).encode(first, second_text)
        types = found.type_ids
        second = types.index(1) if 1 in types else len(types)
        if set(types[:second]) - {0} or set(types[second:]) - {1}:
            raise InputError.of(
                _FIELD, "Its tokenizer gives types other than 0 for a text and 1 for the second.", _REMEDY
            )
        return found.ids, second

    def _backend(self, length: int | None) -> Backend:
        """Return the library's tokenizer that cuts to a length; this process makes each once."""
        key = self.fingerprint, length
        if (backend := _BACKENDS.get(key)) is None:
            backend = _BACKENDS[key] = Backend.from_str(self.backend_json)
            if length is not None:
                backend.enable_truncation(length, direction="left" if self.cuts_left else "right")
        return backend


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a teacher or a student in a local folder.

    Raises:
        InputError: The tokenizer cannot be read, or has no files, no fast form or no padding token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), config=_model_config(folder), local_files_only=True, trust_remote_code=False
        )
        # Without any file, transformers builds a tokenizer that knows only its special tokens.
        found = any((folder / str(name)).is_file() for name in tokenizer.vocab_files_names.values())
    except (KeyboardInterrupt, SystemExit, MemoryError, InputError):
        raise
    except BaseException as error:  # `tokenizers` raises bare Exceptions, and its Rust code panics
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError.of(_FIELD, f"The tokenizer of {folder} cannot be read: {problem}.", _REMEDY) from error
    lack = "files" if not found else "fast form" if not tokenizer.is_fast else "padding token"
    if not found or not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise InputError.of(_FIELD, f"The tokenizer of {folder} has no {lack}.", _REMEDY)
    return tokenizer


def _model_config(folder: Path) -> PreTrainedConfig | None:
    """Return the configuration that decides the tokenizer's class; None lets transformers read the file.

    For a stock family it has only the settings that are needed, since transformers may fail on another one.
    """
    from transformers import AutoConfig

    config = TeacherFolder.open(str(folder)).json(CONFIG)
    if config.get("model_type") not in FAMILIES:
        return None
    return AutoConfig.for_model(config["model_type"], **encoder_settings(config))
