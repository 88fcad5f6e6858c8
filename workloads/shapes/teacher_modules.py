"""The modules of a sentence-transformers folder: what a teacher makes of its encoder's output to give one vector.

``modules.json`` names them. Read are a Transformer, a Pooling, Dense maps and a Normalize, in this order; every other
module is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from workloads.shapes.heads import ACTIVATIONS, MOST_DENSE, Dense, Pooling, VectorHead
from workloads.shapes.safetensors_header import StoredTensor
from workloads.shapes.teacher_config import FIELD
from workloads.shapes.teacher_folder import CONFIG, MODULES, WEIGHTS, TeacherFolder
from workloads.shapes.teacher_tokenizer import TOKENIZER_CONFIG
from workloads.shapes.teacher_weights import FLOATS
from workloads.spec.errors import InputError
from workloads.spec.json_text import shown

MODEL_CONFIG = "config_sentence_transformers.json"
"""The file with the prompts, the similarity and the kind of model."""
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names of the Transformer's own settings; old versions named them by the model."""
LONGEST_PROMPT, MOST_PROMPTS = 4096, 64
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_READ = "read are a Transformer, a Pooling, Dense modules and a Normalize, in this order"
_AS_ENCODER = "Set teacher.kind to 'encoder' to compress its encoder alone."
OLD_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Settings of versions before 6, one flag a kind of pooling."""


@dataclass(frozen=True)
class Module:
    """An entry of ``modules.json``.

    Attributes:
        name: Name of its class.
        path: Its folder, from that of ``modules.json``; empty for that folder itself.
    """

    name: str
    path: str

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.path}/{name}" if self.path else name


def module_list(folder: TeacherFolder) -> list[Module]:
    """Read ``modules.json``, which is in the folder or around it; empty if there is none.

    Raises:
        InputError: It cannot be read, or an entry is not of sentence-transformers.
    """
    around = folder.around
    if MODULES not in around.names:
        return []
    where = f"{around.url}/{MODULES}"
    found = []
    for entry in around.json_list(MODULES):
        kind = entry.get("type") if isinstance(entry, dict) else None
        path = entry.get("path", "") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or not isinstance(path, str) or (path and not around.may_hold(path)):
            raise InputError.of(
                FIELD, f"{where} has the entry {shown(entry)}, which has no type and path.", "Copy it again."
            )
        if not kind.startswith("sentence_transformers."):
            raise InputError.of(
                FIELD, f"{where} has the module {shown(kind)}, whose code is never run.", _AS_ENCODER
            )  # fmt: skip
        found.append(Module(kind.rpartition(".")[2], path))
    return found


def vector_head(folder: TeacherFolder, hidden_size: int) -> VectorHead:
    """Read the head that the modules after the Transformer make.

    Args:
        folder: The Transformer's folder.
        hidden_size: Width of its output.

    Raises:
        InputError: A module, or a setting of one, is not supported; the error names it.
    """
    modules, where = module_list(folder), folder.around.url
    names = [module.name for module in modules]
    unknown = next((name for name in names if name not in _ORDER), None)
    if unknown is not None:
        problem = f"{where}/{MODULES} has the module {unknown}, which is not supported; {_READ}."
        raise InputError.of(FIELD, problem, _AS_ENCODER)
    if names[:2] != ["Transformer", "Pooling"] or names[2:] != sorted(names[2:]) or names.count("Normalize") > 1:
        problem = f"{where}/{MODULES} has the modules {', '.join(names)}; {_READ}."
        raise InputError.of(FIELD, problem, _AS_ENCODER)
    pooling = _pooling(folder.around, modules[1], hidden_size)
    dense, normalize, width = list[Dense](), False, hidden_size
    for module in modules[2:]:
        if module.name == "Normalize":
            normalize = True
        else:
            dense.append(_dense(folder.around, module, width))
            width = dense[-1].width
    if len(dense) > MOST_DENSE:
        problem = f"{where}/{MODULES} has {len(dense)} Dense modules; {MOST_DENSE} are read at most."
        raise InputError.of(FIELD, problem, _AS_ENCODER)
    settings = _model_settings(folder.around)
    own = _transformer_settings(folder)
    prompts = _prompts(folder.around, settings)
    if not pooling.includes_prompt and any(text for _, text in prompts):
        raise InputError.of(
            FIELD, f"The Pooling of {where} leaves the prompt's tokens out (include_prompt), which is not supported.",
            _AS_ENCODER,
        )  # fmt: skip
    return VectorHead(
        pooling=pooling.kind,
        dense=tuple(dense) or (Dense(hidden_size),),
        projected=not dense,
        normalize=normalize,
        longest=longest_text(folder, own),
        lowercase=own.get("do_lower_case") is True,
        prompts=prompts,
        default_prompt=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name"),
    )


def plain_vector_head(folder: TeacherFolder, hidden_size: int) -> VectorHead:
    """Return the head of a plain folder that is asked to be an embedding model: the mean over its tokens."""
    return VectorHead("mean", (Dense(hidden_size),), projected=True, normalize=False, longest=longest_text(folder, {}))


def longest_text(folder: TeacherFolder, settings: Mapping[str, Any]) -> int | None:
    """Return the tokens that texts are truncated to, special ones included; None if only the positions limit them.

    Args:
        folder: The folder of the tokenizer.
        settings: Settings of a sentence-transformers' Transformer, which come first.
    """
    of_tokenizer = folder.json(TOKENIZER_CONFIG).get("model_max_length") if TOKENIZER_CONFIG in folder.names else None
    for given in (settings.get("max_seq_length"), of_tokenizer):
        # Where no length is known, transformers writes a number of 1e30.
        if isinstance(given, int) and not isinstance(given, bool) and 3 <= given < 1 << 20:
            return given
    return None


def dense_tensors(folder: TeacherFolder) -> list[str]:
    """Return the paths of the weights of the Dense modules, from the folder around; in their order."""
    return [module.file(WEIGHTS) for module in module_list(folder) if module.name == "Dense"]


def module_files(folder: TeacherFolder) -> list[str]:
    """Return the paths of the modules' files but the Transformer's, from the folder around."""
    there = [MODULES, *({MODEL_CONFIG} & folder.around.names)]
    for module in module_list(folder):
        if module.name == "Transformer":
            continue
        names = (CONFIG, WEIGHTS) if module.name == "Dense" else (CONFIG,)
        there += [path for name in names if folder.around.storage.exists(path := module.file(name))]
    return there


@dataclass(frozen=True)
class _Pooled:
    kind: Pooling
    includes_prompt: bool


def _pooling(folder: TeacherFolder, module: Module, hidden_size: int) -> _Pooled:
    where, settings = f"{folder.url}/{module.file(CONFIG)}", folder.json(module.file(CONFIG))
    asked = settings.get("pooling_mode")
    kinds = [asked] if isinstance(asked, str) else asked
    if kinds is None:
        kinds = [kind for flag, kind in OLD_POOLINGS.items() if settings.get(flag) is True]
    if not isinstance(kinds, list) or not all(kind in get_args(Pooling) for kind in kinds) or not kinds:
        problem = f"{where} has a pooling of unknown kind: {shown(asked if asked is not None else settings)}."
        raise InputError.of(FIELD, problem, f"Use one of {', '.join(get_args(Pooling))}. Or: {_AS_ENCODER}")
    if len(kinds) > 1:
        problem = f"{where} joins several poolings ({', '.join(kinds)}), which is not supported."
        raise InputError.of(FIELD, problem, _AS_ENCODER)
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension", hidden_size))
    if width != hidden_size:
        problem = f"{where} pools {shown(width)} dimensions, and the Transformer's config.json says {hidden_size}."
        raise InputError.of(FIELD, problem, "Use the modules that were saved together.")
    return _Pooled(kinds[0], settings.get("include_prompt", True) is not False)


def _dense(folder: TeacherFolder, module: Module, inputs: int) -> Dense:
    where, settings = f"{folder.url}/{module.file(CONFIG)}", folder.json(module.file(CONFIG))
    given, width = settings.get("in_features"), settings.get("out_features")
    if given != inputs:
        problem = f"{where} has in_features: {shown(given)}, and the module before it gives {inputs}."
        raise InputError.of(FIELD, problem, "Use the modules that were saved together.")
    if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= 1 << 16:
        problem = f"{where} has out_features: {shown(width)}, which is not a width."
        raise InputError.of(FIELD, problem, "Use the modules that were saved together.")
    named = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    names = {one.rpartition(".")[2]: one for one in ACTIVATIONS}
    activation = names.get(named.rpartition(".")[2]) if isinstance(named, str) and named.startswith("torch.") else None
    if activation is None:
        problem = f"{where} has activation_function: {shown(named)}, which is not supported."
        raise InputError.of(FIELD, problem, f"Use one of {', '.join(names)}. Or: {_AS_ENCODER}")
    if settings.get("use_residual") or settings.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        problem = f"{where} asks for more than a map of the vector (use_residual, module_input_name)."
        raise InputError.of(FIELD, problem, _AS_ENCODER)
    _check_dense(folder, module, {"linear.weight": (width, inputs), "linear.bias": (width,)}, settings)
    return Dense(width, activation)


def _check_dense(
    folder: TeacherFolder, module: Module, sizes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]
) -> None:
    file = module.file(WEIGHTS)
    where = f"{folder.url}/{file}"
    if not folder.storage.exists(file):
        remedy = "Save the model again with sentence-transformers 2.3 or later, which writes safetensors."
        raise InputError.of(FIELD, f"{where} is missing.", remedy)
    tensors: dict[str, StoredTensor] = folder.tensors_of(file)
    for name, size in sizes.items():
        if name == "linear.bias" and settings.get("bias", True) is False:
            continue
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != size or tensor.dtype not in FLOATS:
            there = "no such tensor" if tensor is None else f"one of {list(tensor.shape)} in {tensor.dtype}"
            problem = f"{where} should hold {name} of {list(size)} in floats, and has {there}."
            raise InputError.of(FIELD, problem, "Use the modules that were saved together.")


def _transformer_settings(folder: TeacherFolder) -> Mapping[str, Any]:
    name = next((name for name in TRANSFORMER_CONFIGS if name in folder.names), None)
    return {} if name is None else folder.json(name)


def _model_settings(around: TeacherFolder) -> Mapping[str, Any]:
    settings = around.json(MODEL_CONFIG) if MODEL_CONFIG in around.names else {}
    for name in ("default_prompt_name", "similarity_fn_name"):
        if settings.get(name) is not None and not isinstance(settings[name], str):
            problem = f"{around.url}/{MODEL_CONFIG} has {name}: {shown(settings[name])}, which is not a name."
            raise InputError.of(FIELD, problem, "Copy it again.")
    return settings


def _prompts(around: TeacherFolder, settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    given = settings.get("prompts") or {}
    where = f"{around.url}/{MODEL_CONFIG}"
    if not isinstance(given, dict) or len(given) > MOST_PROMPTS or not all(_texts(given)):
        problem = f"{where} has prompts that are not texts by name."
        raise InputError.of(FIELD, problem, f"Give at most {MOST_PROMPTS} of at most {LONGEST_PROMPT} characters.")
    default = settings.get("default_prompt_name")
    if default is not None and default not in given:
        raise InputError.of(
            FIELD, f"{where} has default_prompt_name: {shown(default)}, and no such prompt.", "Add it to the prompts."
        )
    return tuple(given.items())


def _texts(given: Mapping[Any, Any]) -> Iterator[bool]:
    for name, text in given.items():
        yield isinstance(name, str) and isinstance(text, str) and len(text) <= LONGEST_PROMPT
