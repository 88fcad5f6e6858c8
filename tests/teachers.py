"""Tiny random teachers of every family, each with a real tokenizer trained on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
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
_SUFFIX = {
    None: "Model",
    "masked-lm": "ForMaskedLM",
    "classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
}
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
    labels: int = 3,
    **settings: Any,
) -> Path:
    """Save a random teacher of ``family`` with its tokenizer in ``folder`` and return it.

    Biases and norms are random too, so that mixed-up weights show. ``head`` is ``masked-lm``,
    ``classification`` or ``token-classification`` (with ``labels``); with a head, the pooler is that of the stock
    class. ``settings`` are further ones of the configuration.
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
        num_labels=labels,
        **options,
        **settings,
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


def add_modules(
    folder: Path,
    *,
    pooling: str = "mean",
    dense: Sequence[tuple[int, str]] = (),
    normalize: bool = True,
    transformer: str = "",
    **settings: Any,
) -> Path:
    """Write the files that make a teacher's folder one of sentence-transformers, in the layout of version 2.

    Args:
        folder: The folder of the model.
        pooling: Kind of pooling, as version 6 names it.
        dense: Widths and activations (classes of torch.nn) of Dense modules, with random weights.
        normalize: Whether there is a Normalize.
        transformer: Sub-folder that the model is moved to; empty for none.
        settings: Content of config_sentence_transformers.json; ``max_seq_length`` goes to the Transformer's settings.
    """
    config = json.loads((folder / "config.json").read_text())
    own = {name: settings.pop(name) for name in ("max_seq_length", "do_lower_case") if name in settings}
    if transformer:
        files = list(folder.iterdir())
        (folder / transformer).mkdir()
        for file in files:
            file.rename(folder / transformer / file.name)
    (folder / transformer / "sentence_bert_config.json").write_text(json.dumps(own))
    width, modules = config["hidden_size"], [("Transformer", transformer), ("Pooling", "1_Pooling")]
    generator = torch.Generator().manual_seed(1)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": width, "pooling_mode": pooling, "include_prompt": True})
    )
    for outputs, activation in dense:
        path = f"{len(modules)}_Dense"
        (folder / path).mkdir()
        facts = {"in_features": width, "out_features": outputs, "bias": True}
        named = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
        (folder / path / "config.json").write_text(json.dumps({**facts, "activation_function": named}))
        weight = torch.randn(outputs, width, generator=generator) / width**0.5
        bias = 0.1 * torch.randn(outputs, generator=generator)
        save_file({"linear.weight": weight, "linear.bias": bias}, folder / path / "model.safetensors")
        modules.append(("Dense", path))
        width = outputs
    if normalize:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
                for index, (name, path) in enumerate(modules)
            ]
        )
    )
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
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
