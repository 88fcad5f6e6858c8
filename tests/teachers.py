"""Tiny random teachers of every family, each with a real tokenizer trained on a few sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

FAMILIES = ("bert", "roberta", "xlm-roberta", "mpnet")

SENTENCES = [
    "A stillroom is the room of a great house where essences were distilled.",
    "The teacher is large, the student is small, and both read the same text.",
    "Fellow citizens of the Senate and of the House of Representatives, I greet you.",
    "Nothing is lost when a run is killed and started again from its last checkpoint.",
    "Each budget is met in the cost that is counted on the student as it is saved.",
    "Seven quick foxes jumped over the lazy dog while 42 geese looked on in silence.",
]

_PREFIX = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "mpnet": "MPNet"}
_SUFFIX = {None: "Model", "masked-lm": "ForMaskedLM", "classification": "ForSequenceClassification"}
_BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA_TOKENS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


def make_teacher(
    folder: Path,
    family: str = "bert",
    *,
    layers: int = 4,
    hidden_size: int = 64,
    heads: int = 4,
    intermediate_size: int = 256,
    vocab_size: int = 200,
    positions: int = 130,
    seed: int = 0,
    pooler: bool = True,
    head: str | None = None,
) -> Path:
    """Save a random teacher of ``family`` with its tokenizer in ``folder`` and return it.

    Biases and norms are random too, so that mixed-up weights show. ``head`` is ``masked-lm`` or
    ``classification`` (3 classes); with a head, the pooler is that of the stock class.
    """
    tokenizer = make_tokenizer(family, vocab_size)
    options: dict[str, Any] = {} if family == "mpnet" else {"type_vocab_size": 2 if family == "bert" else 1}
    config = getattr(transformers, f"{_PREFIX[family]}Config")(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=positions,
        pad_token_id=tokenizer.pad_token_id,
        layer_norm_eps=1e-12 if family == "bert" else 1e-5,
        num_labels=3,
        **options,
    )
    kind = getattr(transformers, f"{_PREFIX[family]}{_SUFFIX[head]}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config, **({} if head else {"add_pooling_layer": pooler}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(family: str, vocab_size: int = 200) -> PreTrainedTokenizerFast:
    """Train a tokenizer of the family's kind on :data:`SENTENCES`."""
    names = _BERT_TOKENS if family == "bert" else _ROBERTA_TOKENS
    special = list(names.values())
    if family in {"bert", "mpnet"}:
        tokenizer = Tokenizer(models.WordPiece(unk_token=names["unk"]))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special)
    elif family == "roberta":
        tokenizer = Tokenizer(models.BPE(unk_token=names["unk"]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=vocab_size, special_tokens=special, unk_token=names["unk"])
    tokenizer.train_from_iterator(SENTENCES, trainer)
    cls, sep = names["cls"], names["sep"]
    between, second = (f"{sep}", ":1") if family == "bert" else (f"{sep} {sep}", "")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {between} $B{second} {sep}{second}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if family == "bert" else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=inputs,
        **{f"{name}_token": token for name, token in names.items()},
    )
