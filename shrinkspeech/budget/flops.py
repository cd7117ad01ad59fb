"""FLOP/s: what the contractions of a model cost for each second of audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shrinkspeech.budget.amounts import COUNTS
from shrinkspeech.budget.registry import Quantity, quantity
from shrinkspeech.errors import BudgetError

if TYPE_CHECKING:
    from shrinkspeech.groups.cost import Polynomial
    from shrinkspeech.groups.groups import Groups


@quantity
class Flops(Quantity):
    """Floating-point operations per second of audio, 2 × multiply-accumulates; counted exactly."""

    name, unit, units = "flops", "FLOP/s", COUNTS
    example = "600k, 1.2M"
    help = "FLOP per second of audio: 25%, 0.25x, 600k or 1.2M."

    def cost(self) -> Polynomial:
        from shrinkspeech.groups.cost import count

        return count(self.captured, self.groups, self.seconds).total


def refuse_uncounted(kind: type[Quantity], groups: Groups, ignore: bool) -> None:
    """Refuse a budget of FLOP/s for a model that may have more of them than anybody can count.

    Args:
        ignore: the user has said that what is not counted shall not count.

    Raises:
        BudgetError: some operators cannot be counted; the sentence names them, their modules and lines.
    """
    if kind is Flops and groups.uncounted and not ignore:
        named = "; ".join(groups.left_out)
        raise BudgetError(
            f"a budget of FLOP/s cannot be promised, as nobody can count {named}: write a rule with its cost "
            "(docs/rules.md), give torch a formula (torch.utils.flop_counter.register_flop_formula), or leave it out with "
            "--ignore-uncounted (ignore_uncounted=True)"
        )
