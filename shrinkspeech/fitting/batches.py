"""The training batches of a fit, from the start again when they end, and drawn anew where a fit goes on."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.processes.sharing import Sharing
from shrinkspeech.fitting.randomness import Stream
from shrinkspeech.fitting.recipe import Recipe


class Batches:
    """An endless stream. What it draws from the random numbers of Python, numpy and torch depends on nothing but their state
    at the start, so that the same batches come again in a fit that goes on, whatever training itself draws in between.

    Args:
        sharing: how several processes share a batch.

    Attributes:
        used: batches drawn so far.
    """

    def __init__(self, recipe: Recipe, sharing: Sharing | None = None) -> None:
        self.recipe, self.used, self._stream = recipe, 0, Stream()
        self.sharing = sharing or Sharing()
        self._first: Iterable[Any] | None = None
        self._endless: Generator[Any, None, None] = self._each()

    def draw(self) -> Any:
        """The next one.

        Raises:
            RecipeError: the recipe yields none at all.
        """
        self.used += 1
        with self._stream.drawn():
            return next(self._endless)

    def skip(self, used: int) -> None:
        """Go on after what another fit has used: it is left out where the recipe can, else drawn and thrown away."""
        if self.recipe.batches_from is not None and self.sharing.team.alone and not self.used:
            self._first, self.used = self.recipe.batches_from(used), used
        while self.used < used:
            self.draw()

    def close(self) -> None:
        """Draw no more: processes that prepare batches end now, not when their memory is collected."""
        self._endless.close()

    def _each(self) -> Generator[Any, None, None]:
        while True:
            empty = True
            first, self._first = self._first, None
            for batch in self.sharing.batches(self.recipe) if first is None else first:
                empty = False
                yield batch
            if empty:
                raise RecipeError(f"train_batches() of '{self.recipe.name}' yields nothing")
