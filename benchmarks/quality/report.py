"""The report: tables and pictures of every profile, from the rows alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np

from benchmarks.quality.pictures import loss_picture, quality_picture
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Entry, Plan
from benchmarks.quality.planning import plan_of
from benchmarks.quality.profiles import PROFILES, Profile
from benchmarks.quality.questions import member_of
from benchmarks.quality.rows import Row, Rows
from benchmarks.quality.shapes import EQUAL, cost_of, is_equal
from benchmarks.quality.statistics import AVERAGED, Answers, average, difference, plain, points, tau_in_bands
from workloads.craft.pictures import Picture
from workloads.shapes.architecture import Architecture, TeacherShape

NOTE = (
    f"Multiply-accumulates (MACs) of 128 tokens; ≠ marks those that differ from the chosen student's by more than "
    f"{EQUAL:.0%}. Scores are points on the validation rows: SST-2 and RTE accuracy, MRPC "
    "the mean of accuracy and F1, STS-B Spearman, CoLA Matthews; ± is the standard deviation over seeds of "
    "fine-tuning. The average is that of SST-2, MRPC, RTE and STS-B. Differences are paired by seed; their 90 % "
    "intervals come from a bootstrap over validation rows. *STS-B untuned* is Spearman's correlation of the cosines of "
    "mean-pooled outputs without fine-tuning; relation losses leave that output untrained. The corpus is 40 % movie "
    "reviews, which favours SST-2."
)


def write_report(rows: Rows, out: Path, profiles: Iterable[Profile] = tuple(PROFILES.values())) -> list[Path]:
    """Write ``report.md`` and its pictures into a folder, and return the files."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    text = ["# Quality of students on real tasks", "", NOTE]
    for profile in profiles:
        plan = plan_of(profile, rows)
        there = [rows[one] for one in plan.pieces if one in rows]
        if len(there) < 2:  # a scene alone, which profiles share, shows nothing
            continue
        text += ["", f"## {profile.name}: {profile.what}", "", _made_with(there, len(plan.pieces), plan.later)]
        report = _Report(profile, plan, rows)
        for name, picture in report.pictures():
            for kind, data in (("png", picture.png), ("svg", picture.svg)):
                path = out / f"{profile.name}-{name}.{kind}"
                path.write_bytes(data)
                written.append(path)
            text += ["", f"![{picture.alt}]({profile.name}-{name}.png)"]
        text += report.students() + report.sharing() + report.predicting() + report.shapes() + report.recipes()
    path = out / "report.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return [path, *written]


class _Report:
    """Tables of one profile."""

    def __init__(self, profile: Profile, plan: Plan, rows: Rows) -> None:
        self._profile, self._plan, self._rows = profile, plan, rows
        scene = next(piece for piece in plan.pieces.values() if piece.kind == "scene")
        self._shape = TeacherShape.from_json(rows[scene.fingerprint].result["teacher"])

    def pictures(self) -> Iterable[tuple[str, Picture]]:
        """Yield quality against MACs, and loss against tokens, as far as there is something to show."""
        teacher = next((entry for entry in self._plan.entries if entry.fraction is None), None)
        top = None if teacher is None else self._average(teacher)
        shown = [(entry, score) for entry in self._plan.entries if (score := self._average(entry)) is not None]
        if teacher is not None and top is not None and len(shown) > 1:
            macs = cost_of(self._shape, teacher.architecture).flops
            # At equal tokens only: the table has the others.
            models = [
                (entry, cost_of(self._shape, entry.architecture).flops, score)
                for entry, score in shown
                if entry is not teacher and ", bill" not in entry.role
            ]
            yield "macs", quality_picture(models, macs, top)
        losses: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for one in self._plan.sharing:
            if one.everywhere:
                pairs = self._pairs(one.inside, one.alone, [member_of(shape) for shape in one.shapes])
                for kind, values in pairs:
                    losses.setdefault((one.subspace, kind), []).append((one.tokens, median(values)))
        if losses:
            yield "tokens", loss_picture(losses)

    def students(self) -> list[str]:
        """Return a table for each budget, and what they say of the goals."""
        lines: list[str] = []
        teachers = [entry for entry in self._plan.entries if entry.fraction is None]
        for fraction in dict.fromkeys(entry.fraction for entry in self._plan.entries if entry.fraction is not None):
            entries = [entry for entry in self._plan.entries if entry.fraction == fraction]
            chosen = next((entry for entry in entries if entry.role == "chosen"), None)
            head = ["model", "shape", "MACs, M", "params, M", "tokens", "held-out loss", *self._profile.tasks]
            head += ["average", "chosen less this", "STS-B untuned", "CPU-s to get it"]
            lines += ["", f"### At {fraction:.3g} of the teacher's MACs", "", *_header(head)]
            lines += [self._student(entry, chosen) for entry in (*teachers, *entries)]
            lines += self._goals(teachers, entries, chosen)
        return lines

    def sharing(self) -> list[str]:
        """Return the loss inside over the loss alone, by sub-space and length."""
        if not self._plan.sharing:
            return []
        ratios: dict[tuple[str, int], list[float]] = {}
        for one in self._plan.sharing:
            pairs = dict(self._pairs(one.inside, one.alone, [member_of(shape) for shape in one.shapes]))
            if len(pairs) == 2:
                both = zip(pairs["inside"], pairs["alone"], strict=True)
                ratios.setdefault((one.subspace, one.tokens), []).extend(inside / alone for inside, alone in both)
        lines = ["", "### Loss inside the SuperLM over loss alone, at equal tokens", ""]
        lines += _header(["sub-space", "tokens", "shapes", "median", "least", "most"])
        for (space, tokens), found in ratios.items():
            lines.append(
                _line([space, f"{tokens:,}", len(found), *map(_short, (median(found), min(found), max(found)))])
            )
        for tokens in dict.fromkeys(tokens for _, tokens in ratios):
            found = [value for (_, length), values in ratios.items() if length == tokens for value in values]
            lines.append(
                _line(["all", f"{tokens:,}", len(found), *map(_short, (median(found), min(found), max(found)))])
            )
        return lines

    def predicting(self) -> list[str]:
        """Return Kendall's tau of the score, and of size, with the loss alone and with the task average."""
        table: list[tuple[float, float, float, float, float, float]] = []
        for one in self._plan.predicting:
            inside, alone = self._rows.get(one.inside.fingerprint), self._rows.get(one.alone.fingerprint)
            score = self._average(one.entry)
            if inside is None or alone is None or score is None:
                continue
            cost = cost_of(self._shape, one.entry.architecture)
            own = alone.result["losses"][member_of(one.entry.architecture)]
            table.append((one.band, inside.result["losses"][one.place], own, score, cost.flops, cost.params))
        if not self._plan.predicting:
            return []
        bands = [row[0] for row in table]
        lines = ["", f"### Kendall's tau within bands of MACs, {len(table)} shapes", ""]
        lines += _header(["predictor", "with −loss alone", "with the task average"])
        predictors = {"−loss inside": (-1, 1), "−loss alone": (-1, 2), "MACs": (1, 4), "parameters": (1, 5)}
        for name, (sign, place) in predictors.items():
            scores = [sign * row[place] for row in table]
            loss = tau_in_bands(scores, [-row[2] for row in table], bands)
            task = tau_in_bands(scores, [row[3] for row in table], bands)
            lines.append(_line([name, *("–" if tau is None else f"{tau:.2f}" for tau in (loss, task))]))
        return lines

    def shapes(self) -> list[str]:
        """Return the held-out losses of shapes of equal cost, the lowest first."""
        lines: list[str] = []
        for fraction in dict.fromkeys(one.fraction for one in self._plan.shapes):
            losses: dict[Architecture, float] = {}
            for part in self._plan.shapes:
                row = self._rows.get(part.alone.fingerprint)
                if part.fraction == fraction and row is not None:
                    losses |= {one: row.result["losses"][member_of(one)] for one in part.shapes}
            lines += ["", f"### Shapes at {fraction:.3g} of the teacher's MACs, alone", ""]
            lines += _header(["shape", "MACs, M", "params, M", "feed-forward / hidden", "held-out loss"])
            for one in sorted(losses, key=losses.__getitem__):
                cost, ratio = cost_of(self._shape, one), one.layers[0].intermediate_size / one.hidden_size
                sizes = [f"{cost.flops / 1e6:,.0f}", f"{cost.params / 1e6:.1f}", f"{ratio:.2f}"]
                lines.append(_line([one.describe(), *sizes, _short(losses[one])]))
        return lines

    def recipes(self) -> list[str]:
        """Return the held-out losses of the same shapes by each recipe, over those by the first recipe."""
        if not self._plan.recipes:
            return []
        lines = ["", "### Held-out loss by recipe, over that of the first with the same seed", ""]
        lines += _header(
            ["sub-space", "recipe", "seed", "shapes", "median", "least", "most", "smallest", "largest", "CPU-s"]
        )
        first: dict[tuple[str, int], list[float]] = {}
        for one in self._plan.recipes:
            row, trained = self._rows.get(one.inside.fingerprint), self._rows.get(one.distil.fingerprint)
            if row is None or trained is None:
                continue
            losses = list(row.result["losses"])
            base = first.setdefault((one.subspace, one.seed), losses)
            ratios = [loss / own for loss, own in zip(losses, base, strict=True)]
            shown = (median(ratios), min(ratios), max(ratios), ratios[0], ratios[-1])
            cells = [one.subspace, one.variant, one.seed, len(ratios), *map(_short, shown), f"{_paid(trained):,.0f}"]
            lines.append(_line(cells))
        return lines

    def _student(self, entry: Entry, chosen: Entry | None) -> str:
        cost = cost_of(self._shape, entry.architecture)
        answers = self._answers(entry)
        cells: list[object] = [entry.role, entry.architecture.describe()]
        cells += [self._macs(entry, chosen), f"{cost.params / 1e6:.1f}", f"{_tokens(entry.distil):,}"]
        loss = self._loss(entry)
        cells.append("–" if loss is None else _short(loss))
        cells += [_spread(plain(task, answers[task])) if task in answers else "–" for task in self._profile.tasks]
        score = self._average(entry)
        cells.append("–" if score is None else f"{score:.1f}")
        cells.append(self._less(chosen, entry) if chosen is not None and chosen is not entry else "")
        cells.append(self._untuned(entry))
        paid = [self._rows.get(piece.fingerprint) for piece in entry.paid]
        cells.append("–" if any(row is None for row in paid) else f"{sum(_paid(row) for row in paid if row):,.0f}")
        return _line(cells)

    def _macs(self, entry: Entry, chosen: Entry | None) -> str:
        macs = cost_of(self._shape, entry.architecture).flops
        unequal = chosen is not None and not is_equal(macs, cost_of(self._shape, chosen.architecture).flops)
        return f"{macs / 1e6:,.0f}{' ≠' if unequal else ''}"

    def _goals(self, teachers: Sequence[Entry], entries: Sequence[Entry], chosen: Entry | None) -> list[str]:
        ours = None if chosen is None else self._average(chosen)
        if chosen is None or ours is None:
            return []
        lines = [""]
        rivals = [entry for entry in entries if entry.role.startswith("hand-made") and "bill" not in entry.role]
        if rivals and all(self._average(entry) is not None for entry in rivals):
            # The best of them by the rows set aside comes first; the best on the validation rows would be favoured.
            lines.append(f"- Chosen less the best hand-made student: {self._less(chosen, rivals[0])} points.")
        for teacher in teachers:
            if (top := self._average(teacher)) is not None:
                lines.append(f"- Share of the teacher's task average: {ours / top:.1%}.")
        return lines

    def _less(self, ours: Entry, others: Entry) -> str:
        pair = self._answers(ours), self._answers(others)
        for task in AVERAGED:
            seeds = [set(one[task].seeds) if task in one else set() for one in pair]
            if not seeds[0] & seeds[1]:
                return "–"
        return str(difference(*pair))

    def _loss(self, entry: Entry) -> float | None:
        row = self._rows.get((entry.search or entry.distil).fingerprint)
        if row is None:
            return None
        if entry.search is None:
            loss: float | None = row.result["losses"].get(entry.member)
            return loss
        shape = entry.architecture.to_json()
        survivors = (one for one in row.result["survivors"] if one["subspace"] == entry.member)
        return next((one["heldout_loss"] for one in survivors if one["architecture"] == shape), None)

    def _pairs(self, inside: Piece, alone: Piece, members: Sequence[str]) -> list[tuple[str, list[float]]]:
        rows = [self._rows.get(piece.fingerprint) for piece in (inside, alone)]
        if rows[0] is None or rows[1] is None:
            return []
        own = [rows[1].result["losses"][member] for member in members]
        return [("inside", list(rows[0].result["losses"])), ("alone", own)]

    def _answers(self, entry: Entry) -> dict[str, Answers]:
        found = {}
        for task in dict.fromkeys(piece.inputs["task"] for piece in entry.tasks):
            there = [
                (piece.inputs["seed"], row.values, self._rows[piece.needs[1].fingerprint].values)
                for piece in entry.tasks
                if piece.inputs["task"] == task and (row := self._rows.get(piece.fingerprint)) is not None
            ]
            if there:
                predicted = np.stack([np.asarray(values, np.float64) for _, values, _ in there])
                labels = np.asarray(there[0][2], np.float64)
                found[task] = Answers(predicted, labels, tuple(seed for seed, _, _ in there))
        return found

    def _average(self, entry: Entry) -> float | None:
        return average(self._answers(entry))

    def _untuned(self, entry: Entry) -> str:
        row = None if entry.untuned is None else self._rows.get(entry.untuned.fingerprint)
        if entry.untuned is None or row is None:
            return "–"
        labels = self._rows[entry.untuned.needs[1].fingerprint].values
        given, wanted = (np.asarray(values, np.float64) for values in (row.values, labels))
        return f"{points('stsb', given, wanted, np.ones((1, len(wanted))))[0]:.1f}"


def _made_with(rows: Sequence[Row], known: int, later: Sequence[str]) -> str:
    machines = sorted({_machine(row) for row in rows})
    dates = sorted(row.date[:10] for row in rows)
    whole = sum(row.cpu_seconds for row in rows) / 3600
    missing = f"; {known - len(rows)} of {known} known pieces are missing" if known > len(rows) else ""
    open_ = f"; not known yet: {', '.join(later)}" if later else ""
    return (
        f"{len(rows)} pieces, {whole:.1f} CPU-hours, {dates[0]} to {dates[-1]}, commits "
        f"{', '.join(sorted({row.commit for row in rows}))}, on {'; '.join(machines)}{missing}{open_}."
    )


def _machine(row: Row) -> str:
    named = f"{row.machine['processor']}, {row.machine['cores']} cores"
    card = row.machine.get("card")
    return named if card is None else f"{named}, with one {card}"


def _tokens(distil: Piece) -> int:
    """Return the tokens of a distillation and of those that it goes on from."""
    return int(distil.inputs["tokens"]) + sum(_tokens(one) for one in distil.needs if one.kind == "distil")


def _paid(row: Row) -> float:
    return float(row.result.get("train_cpu_seconds", row.cpu_seconds))


def _spread(scores: Iterable[float]) -> str:
    found = list(scores)
    return f"{mean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def _short(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not finite"


def _header(cells: Sequence[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
