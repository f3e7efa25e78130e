"""What the settings of every retrieval model have in common."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from pipeline.config.base import Section


class ModelSettings(Section):
    """What every retrieval model has; the settings of a model of one's own derive from it (docs/extending.md)."""

    kind: str = Field(description="The dotted name of a module of your own, e.g. `my_package.my_model`.")
    hidden: PositiveInt = Field(384, description="Hidden size.")
    max_words: PositiveInt = Field(77, description="Query tokens kept.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of model it is built of, each of which is code of the result."""
        return (self.kind,)

    @property
    def reads_words(self) -> bool:
        """Whether the model needs the words of a query, so that one vector a sentence will not do."""
        return False

    @property
    def reads_mask(self) -> bool:
        """Whether the model heeds `Videos.mask`; one that does not cannot take `clips.frame_rows: capped`."""
        return False

    @property
    def reads_sentence(self) -> bool:
        """Whether the model reads a sentence vector of each query (`Words.sentence`) instead of its words."""
        return False

    @property
    def reads_raw_rows(self) -> bool:
        """Whether the model is given frames and clips as they are; otherwise each row at unit length."""
        return False
