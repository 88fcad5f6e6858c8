"""The record of a student's fidelity to its teacher. Light to import."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

CONFIDENCE = 0.95
"""Share of resampled texts whose figures lie in an interval."""


class ClassFidelity(BaseModel):
    """Fidelity on the rows (tokens, for a head per token) that the teacher gives one label."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    count: int = Field(ge=0, description="Rows, or tokens, that the teacher gives this label.")
    agreement: float | None = Field(description="Share of them that the student gives it too; null if there are none.")


class Fidelity(BaseModel):
    """How often a student's answers are its teacher's, on held-out rows; the figures depend on the teacher's kind.

    A figure is null if it does not apply, or is undefined on these rows.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    rows: int = Field(ge=1, description="Held-out rows measured on.")
    agreement: float | None = Field(
        None,
        description="Share of rows (tokens, for a head per token) with the teacher's label. With several labels: rows "
        "with all of the teacher's decisions.",
    )
    kl: float | None = Field(
        None, description="Mean KL divergence of the teacher's probabilities from the student's, in nats."
    )
    per_class: dict[str, ClassFidelity] | None = Field(None, description="By label of the teacher.")
    cosine: float | None = Field(None, description="Mean cosine of the student's vectors to the teacher's.")
    similarity_spearman: float | None = Field(
        None, description="Spearman correlation of the cosines of pairs of rows, of the student and of the teacher."
    )
    neighbours_at_10: float | None = Field(
        None,
        description="Share of the teacher's ten nearest rows that the student finds too, in an index of these rows: of "
        "the teacher's vectors, or of the student's own if they have another size.",
    )
    spearman: float | None = Field(None, description="Spearman correlation of the student's values to the teacher's.")
    kendall: float | None = Field(
        None, description="Kendall's tau-b within the rows that share a text, mean over such lists of rows."
    )
    interval: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description=f"Bootstrap interval ({CONFIDENCE:.0%}) of each figure, over texts drawn anew.",
    )

    @property
    def figures(self) -> Mapping[str, float]:
        """The figures that are defined, by name, without those per class."""
        return {name: value for name in FIGURES if (value := getattr(self, name)) is not None}


FIGURES = ("agreement", "kl", "cosine", "similarity_spearman", "neighbours_at_10", "spearman", "kendall")
"""Names of the figures."""
FIGURE_WORDS = {
    "agreement": "Same label as the teacher",
    "kl": "KL divergence of the probabilities, nats",
    "cosine": "Cosine to the teacher's vector",
    "similarity_spearman": "Spearman correlation of the similarities of pairs",
    "neighbours_at_10": "Share of the teacher's ten nearest rows found",
    "spearman": "Spearman correlation of the values",
    "kendall": "Kendall's tau within lists",
}
"""What each figure is, in words."""
_OF_FLOORS = {
    "min_agreement": ("agreement",),
    "min_cosine": ("cosine",),
    "min_neighbours": ("neighbours_at_10",),
    "min_spearman": ("spearman", "similarity_spearman"),
}
"""The figure that a floor of a budget sets, by the floor; of several, a kind of teachers has one."""


def figure_of(floor: str, figures: Mapping[str, float]) -> float | None:
    """Return the figure that a floor sets; None if it is not among ``figures``."""
    return next((figures[name] for name in _OF_FLOORS[floor] if name in figures), None)


def shortfalls(figures: Mapping[str, float], floors: Mapping[str, float]) -> dict[str, float]:
    """Return 1 plus what is missing, for each floor that is not reached; a figure that is unknown counts as 0."""
    found = {floor: figure_of(floor, figures) or 0.0 for floor in floors}
    return {floor: 1 + least - found[floor] for floor, least in floors.items() if found[floor] < least}
