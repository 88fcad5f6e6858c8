"""Preparing a corpus: read, hold out, tokenise and pack it, once, on the cluster.

Large corpora go through Ray Data, one task per split. Each task writes its own shards and returns only statistics,
so that memory use does not grow with the corpus. Small corpora run the same code in a plain loop, since starting
Ray Data's workers would take longer than the work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from workloads.craft.text import hub
from workloads.craft.text.fingerprint import columns_key, corpus_fingerprint, order_by_content
from workloads.craft.text.forms import TextForm
from workloads.craft.text.packing import Layout
from workloads.craft.text.shards import SIDES
from workloads.craft.text.sources import list_sources
from workloads.craft.text.splits import HubPiece, Split, plan_splits
from workloads.craft.text.tokenise import HASHES, Recipe, SideStats, SplitStats
from workloads.craft.text.tokenizer import Tokenizer
from workloads.runs.attempt.run import News
from workloads.runs.splits_on_ray import SplitWork, tokenise_on_ray
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.places import confined
from workloads.storage.storage import Storage

DIRECT_BYTES = 16 << 20
"""Size in bytes below which a corpus is tokenised in this process, in about 5 s. The start of Ray Data takes longer."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CorpusPlan:
    """Plan of preparing a corpus.

    Attributes:
        key: Key of the artefact.
        splits: Units of work.
        recipe: Settings of the work.
        tokenizer: The teacher's tokenizer.
    """

    key: Key
    splits: list[Split]
    recipe: Recipe
    tokenizer: Tokenizer

    @property
    def size(self) -> int | None:
        """Bytes of input; None if not known before (the hub)."""
        known = not any(isinstance(piece, HubPiece) for split in self.splits for piece in split.pieces)
        return sum(split.size for split in self.splits) if known else None


def plan_corpus(
    spec: CorpusSpec, tokenizer: Tokenizer, sequence_length: int, layout: Layout, form: TextForm | None = None
) -> CorpusPlan:
    """List and hash the files of a corpus, and divide them into splits; reads each file once, writes nothing.

    Args:
        spec: The corpus.
        tokenizer: The teacher's.
        sequence_length: Tokens of a row, special ones included.
        layout: ``packed`` rows, or ``documents``: one a row, padded.
        form: How a document becomes a row as its teacher reads it; None for the bare text of it.

    Raises:
        InputError: A file or dataset cannot be found or read.
    """
    if spec.dataset is not None and hub.is_hub_id(spec.dataset):
        confined().require_hub(spec.dataset, "corpus.dataset")
        revision = hub.resolve_revision(spec.dataset)
        inputs: dict[str, Any] = {
            "dataset": [spec.dataset, spec.dataset_config, spec.split, revision],
            **columns_key(spec),
            "heldout_fraction": spec.heldout_fraction,
        }
        splits = hub.plan_hub_splits(spec, revision)
    else:
        ordered = order_by_content(list_sources(spec))
        sources = [source for _, source in ordered]
        inputs = corpus_fingerprint([digest for digest, _ in ordered], sources, spec)
        splits = plan_splits(sources, spec)
    inputs |= {"tokenizer": tokenizer.fingerprint, "sequence_length": sequence_length, "layout": layout}
    if form is not None:
        inputs["form"] = asdict(form)
    recipe = Recipe(spec, sequence_length, layout, round(spec.heldout_fraction * HASHES), form)
    return CorpusPlan(Key("corpus", inputs), splits, recipe, tokenizer)


def build_corpus(storage: Storage, plan: CorpusPlan, builder: str, news: News) -> Artifact:
    """Tokenise a corpus and commit it; :func:`prepare_corpus` first looks for an existing one.

    The hash of its text decides whether a document is held out, with probability ``heldout_fraction``. If all of a few
    documents fall on one side, a second pass moves the bound to just include the smallest hash, or exclude the
    largest. So two different documents always give both sides.

    Args:
        storage: The storage of artefacts; the cluster's nodes must reach it.
        plan: The plan.
        builder: Names the job and attempt.
        news: Hears of the bytes done and in all (None where unknown), and of waits for a CPU.

    Raises:
        InputError: A file cannot be read, there are fewer than two different documents, or no node that is up has a
            CPU; nothing is committed.
        NotStartedError: There is a free CPU, and Ray starts nothing with it.
        OSError: The storage cannot be written; nothing is committed.
    """
    folder = artifacts.build_folder(plan.key, builder)
    recipe = plan.recipe
    try:
        stats = _run(storage, folder, plan, recipe, news)
        if (threshold := _better_threshold(stats, recipe)) is not None:
            _log.info("all documents fell on one side; splitting again", documents=_documents(stats))
            storage.remove(folder)
            recipe = replace(recipe, threshold=threshold)
            stats = _run(storage, folder, plan, recipe, news)
    except BaseException:
        _remove_quietly(storage, folder)
        raise
    return artifacts.commit(storage, plan.key, builder, _summary(plan, recipe, stats))


def prepare_corpus(storage: Storage, plan: CorpusPlan, batch_size: int, builder: str, news: News) -> Artifact:
    """Return the corpus as token blocks, built by this call or an earlier one (then its ``builder`` differs).

    Args:
        storage: See :func:`build_corpus`.
        plan: The plan.
        batch_size: Rows of a training step; a corpus must hold at least one.
        builder: Names the job and attempt.
        news: See :func:`build_corpus`.

    Raises:
        InputError: The corpus is empty, unreadable, too short for a batch, or has too few documents to hold out any.
        OSError: The storage cannot be written.
    """
    artifact = artifacts.find(storage, plan.key) or build_corpus(storage, plan, builder, news)
    check_corpus(artifact, plan.recipe.spec, batch_size)
    return artifact


def check_corpus(artifact: Artifact, spec: CorpusSpec, batch_size: int, group: int = 1) -> None:
    """Refuse a corpus that is too short to train and score on.

    Args:
        artifact: The corpus.
        spec: Its settings.
        batch_size: Rows of a training step.
        group: Rows that the objective compares with one another.

    Raises:
        InputError: It has no held-out group of rows, or fewer training rows than a step takes.
    """
    rows, heldout = (artifact.summary["sides"][side]["rows"] for side in SIDES)
    if not heldout:  # the tokenizer drops all characters of its documents
        raise InputError.of(
            _field(spec), "The held-out documents give no tokens.", "Give more text, or raise corpus.heldout_fraction."
        )
    if heldout < group:
        raise InputError.of(
            _field(spec),
            f"The corpus gives {heldout} held-out rows, and the objective compares groups of {group} rows.",
            "Give more text, raise corpus.heldout_fraction, or lower objective.embedding.similarity_rows.",
        )
    if rows < batch_size:
        raise InputError.of(
            _field(spec),
            f"The corpus gives {rows} training rows of {artifact.summary['sequence_length']} tokens, less than a batch "
            f"of {batch_size}.",
            "Give more text, or lower training.batch_size or training.sequence_length.",
        )


def _run(storage: Storage, folder: str, plan: CorpusPlan, recipe: Recipe, news: News) -> list[SplitStats]:
    work = SplitWork(storage, folder, recipe, plan.tokenizer)
    stats: list[SplitStats] = []
    done = 0
    news.advance(0, plan.size)
    with contextlib.closing(_outcomes(work, plan, news)) as outcomes:
        for found in outcomes:
            stats.append(found)
            done += found.size
            news.advance(done, plan.size)
    return stats


def _outcomes(work: SplitWork, plan: CorpusPlan, news: News) -> Generator[SplitStats, None, None]:
    if plan.size is None or plan.size >= DIRECT_BYTES:
        yield from tokenise_on_ray(work, plan.splits, _field(plan.recipe.spec), news.wait)
    else:
        yield from map(work.do, plan.splits)


def _documents(stats: list[SplitStats]) -> int:
    return sum(side.documents for found in stats for side in found.sides.values())


def _better_threshold(stats: list[SplitStats], recipe: Recipe) -> int | None:
    """Return the bound that puts documents on both sides; None if the present bound does."""
    smallest = min((found.smallest for found in stats if found.smallest is not None), default=None)
    largest = max((found.largest for found in stats if found.largest is not None), default=None)
    field = _field(recipe.spec)
    if smallest is None or largest is None:
        raise InputError.of(field, "There is no text in the corpus.", "Give files that hold text.")
    if smallest == largest:
        count = _documents(stats)
        what = "is one document" if count == 1 else f"is {count} times the same document"
        raise InputError.of(
            field,
            f"The corpus {what}, so nothing can be held out to score students on.",
            "Give more documents, or set corpus.documents to 'paragraph' or 'line' to part .txt files.",
        )
    if smallest >= recipe.threshold:
        return smallest + 1
    return largest if largest < recipe.threshold else None


def _summary(plan: CorpusPlan, recipe: Recipe, stats: list[SplitStats]) -> dict[str, Any]:
    stats = sorted(stats, key=lambda found: found.index)
    return {
        "sequence_length": recipe.sequence_length,
        "layout": recipe.layout,
        "pad_id": plan.tokenizer.pad_id,
        "splits": len(stats),
        "heldout_threshold": recipe.threshold / HASHES,
        "sides": {side: _side_summary([found.sides[side] for found in stats]) for side in SIDES},
    }


def _side_summary(parts: list[SideStats]) -> dict[str, Any]:
    shards = [shard for part in parts for shard in part.shards]
    return {
        "documents": sum(part.documents for part in parts),
        "bytes": sum(part.bytes for part in parts),
        "rows": sum(shard.rows for shard in shards),
        "tokens": sum(shard.tokens for shard in shards),
        "shards": [asdict(shard) for shard in shards],
    }


def _field(spec: CorpusSpec) -> str:
    return "corpus.paths" if spec.paths else "corpus.dataset"


def _remove_quietly(storage: Storage, folder: str) -> None:
    # Best effort: without a manifest, leftovers only cost space. Keep the original error.
    try:
        storage.remove(folder)
    except OSError as error:
        _log.warning("the unfinished corpus was not removed", folder=folder, error=str(error))
