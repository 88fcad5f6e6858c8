"""Checks of a teacher's tokenizer files without transformers: whether it will read them, and whether the ids fit.

Faults that only transformers finds (a class that needs other files, a missing padding token) are reported by the run's
first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workloads.shapes.teacher_config import FIELD, stock_family
from workloads.shapes.teacher_folder import TeacherFolder
from workloads.spec.errors import InputError
from workloads.spec.json_text import JsonError, parse_json, shown

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
TOKENIZER_FILES = (
    ADDED_TOKENS,
    "merges.txt",
    "sentencepiece.bpe.model",
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    "vocab.json",
    "vocab.txt",
)
SAVE = "Write it there with AutoTokenizer.from_pretrained(...).save_pretrained(folder)."

_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "bert": ("vocab.txt",),
    "roberta": ("vocab.json", "merges.txt"),
    "xlm-roberta": (),
    "mpnet": ("vocab.txt",),
}
"""Files that a fast tokenizer can be made from without tokenizer.json, by family."""
_MAX_READ = 20 << 20
"""Most bytes of a file that is checked here (XLM-R's has 17 MB); a larger one is left to the run."""
_MAX_BYTES = 256 << 20
_MAX_PARSED = 4 << 20
"""Most bytes of a tokenizer.json that is parsed here by `tokenizers`, which takes seconds and gigabytes for more."""
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE_TOKENS = ("additional_special_tokens", "extra_special_tokens")
_SIDES = ("padding_side", "truncation_side")


def check_tokenizer(folder: TeacherFolder, config: Mapping[str, Any]) -> None:
    """Refuse tokenizer files that cannot be read, or with ids beyond the model's word table.

    Args:
        folder: The teacher's folder.
        config: The content of its checked ``config.json``.

    Raises:
        InputError: A file is missing or wrong; the error names it.
    """
    settings = _settings(folder)
    known = folder.names & {TOKENIZER, "vocab.txt", "vocab.json"}
    vocabulary = _VOCABULARIES[stock_family(config)]
    if TOKENIZER not in known and not (vocabulary and folder.names.issuperset(vocabulary)):
        raise InputError.of(FIELD, f"{folder.url} has no tokenizer: {TOKENIZER} is missing.", SAVE)
    name = TOKENIZER if TOKENIZER in known else vocabulary[0]
    data = _content(folder, name)
    if data is None:
        return
    ids = {TOKENIZER: _ids_of_tokenizer, "vocab.txt": _ids_of_lines, "vocab.json": _ids_of_object}[name](folder, data)
    _add(ids, _named_tokens(folder, settings))
    _check_ids(folder, ids, config)


def _settings(folder: TeacherFolder) -> Mapping[str, Any]:
    """Read, check and merge the two files that name the special tokens."""
    merged: dict[str, Any] = {}
    for name in (SPECIAL_TOKENS, TOKENIZER_CONFIG):
        settings = folder.json(name) if name in folder.names else {}
        if "auto_map" in settings:
            raise InputError.of(
                FIELD,
                f"The tokenizer of {folder.url} needs code of its own (auto_map), which is never run.",
                "Use a teacher with a stock fast tokenizer.",
            )
        _check_settings(f"{folder.url}/{name}", settings)
        merged |= settings
    return merged


def _check_settings(where: str, settings: Mapping[str, Any]) -> None:
    def refuse(key: str, use: str) -> InputError:
        return InputError.of(FIELD, f"{where} has {key}: {shown(settings[key])}, which is not allowed.", f"Use {use}.")

    for key in _TOKENS:
        if key in settings and settings[key] is not None and _content_of(settings[key]) is None:
            raise refuse(key, 'a token\'s text, or an object with its "content"')
    for key in _SIDES:
        if key in settings and settings[key] not in ("left", "right"):
            raise refuse(key, "left or right")
    name = settings.get("tokenizer_class")
    if name is not None and not isinstance(name, str):
        raise refuse("tokenizer_class", "the name of a class")
    for key in _MORE_TOKENS:
        more = settings.get(key)
        if more is not None and any(_content_of(token) is None for token in _entries(more)):
            raise refuse(key, "a list of tokens")
    decoder = settings.get("added_tokens_decoder", {})
    numbers = isinstance(decoder, dict) and all(key.isascii() and key.isdigit() for key in decoder)
    if not numbers or any(_content_of(token) is None for token in decoder.values()):
        raise refuse("added_tokens_decoder", "an object of ids and tokens")


def _entries(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [None]


def _content_of(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _named_tokens(folder: TeacherFolder, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the special and added tokens: transformers numbers those that the vocabulary lacks after its last id."""
    if ADDED_TOKENS in folder.names:
        yield from folder.json(ADDED_TOKENS)
    named = [settings.get(key) for key in _TOKENS]
    for key in _MORE_TOKENS:
        named += _entries(settings[key]) if settings.get(key) is not None else []
    named += settings.get("added_tokens_decoder", {}).values()
    yield from (text for token in named if (text := _content_of(token)) is not None)


def _content(folder: TeacherFolder, name: str) -> bytes | None:
    """Read a file; None if it is too large to be checked here.

    Raises:
        InputError: The file cannot be read, or is larger than any tokenizer.
    """
    size = folder.size(name)
    if size > _MAX_BYTES:
        problem = f"{folder.url}/{name} has {size:,} bytes; {_MAX_BYTES:,} are read at most."
        raise InputError.of(FIELD, problem, SAVE)
    return folder.read(name, _MAX_READ) if size <= _MAX_READ else None


def _ids_of_tokenizer(folder: TeacherFolder, data: bytes) -> dict[str, int]:
    where = f"{folder.url}/{TOKENIZER}"
    if len(data) <= _MAX_PARSED:
        _parse(where, data)
    document = _json(where, data)
    model = document.get("model") if isinstance(document, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # of a Unigram model: pairs of a token and its score
        names = (pair[0] if isinstance(pair, list) and pair else None for pair in vocabulary)
        ids = {name: index for index, name in enumerate(names) if isinstance(name, str)}
    elif isinstance(vocabulary, dict):
        ids = _numbers(where, vocabulary)
    else:
        raise InputError.of(FIELD, f"{where} cannot be read: it has no vocabulary.", SAVE)
    added = document.get("added_tokens")
    _add(ids, (text for token in added or [] if (text := _content_of(token)) is not None))
    return ids


def _parse(where: str, data: bytes) -> None:
    """Parse the file with the library that the run uses, to find its errors now."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_str(data.decode())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exceptions, and its Rust panics are BaseExceptions
        raise InputError.of(FIELD, f"{where} cannot be read: {error}.", SAVE) from None


def _ids_of_lines(folder: TeacherFolder, data: bytes) -> dict[str, int]:
    return {
        line.decode(errors="replace").strip(): index for index, line in enumerate(data.removesuffix(b"\n").split(b"\n"))
    }


def _ids_of_object(folder: TeacherFolder, data: bytes) -> dict[str, int]:
    where = f"{folder.url}/vocab.json"
    document = _json(where, data)
    if not isinstance(document, dict):
        raise InputError.of(FIELD, f"{where} is not a JSON object.", SAVE)
    return _numbers(where, document)


def _numbers(where: str, vocabulary: dict[str, Any]) -> dict[str, int]:
    for token, number in vocabulary.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            problem = (
                f"{where} gives the token {shown(token)} the id {shown(number)}, which is not a whole number from 0."
            )
            raise InputError.of(FIELD, problem, SAVE)
    return dict(vocabulary)


def _json(where: str, data: bytes) -> Any:
    try:
        return parse_json(data)
    except JsonError as error:
        raise InputError.of(FIELD, f"{where} cannot be read: it is {error}.", SAVE) from error


def _add(ids: dict[str, int], tokens: Iterator[str]) -> None:
    """Number tokens that the vocabulary lacks after its last id, as the `tokenizers` library does."""
    for token in tokens:
        ids.setdefault(token, len(ids))


def _check_ids(folder: TeacherFolder, ids: Mapping[str, int], config: Mapping[str, Any]) -> None:
    rows = config["vocab_size"]
    token = max(ids, key=ids.__getitem__, default=None)
    if token is None or ids[token] < rows:
        return
    raise InputError.of(
        FIELD,
        f"The tokenizer of {folder.url} has {ids[token] + 1} tokens, the model {rows}: {shown(token)} has the id "
        f"{ids[token]}, and config.json says vocab_size: {rows}.",
        "Use the tokenizer that belongs to the model, or resize the model's table and save it.",
    )
