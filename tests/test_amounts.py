"""Amounts: one way of reading and writing them, whatever they are of and whoever asks."""

from __future__ import annotations

import pytest

from shrinkspeech.budget import Quantity, quantities
from shrinkspeech.budget.amounts import human
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.latency import Latency
from shrinkspeech.budget.params import Params
from shrinkspeech.budget.size import Size
from shrinkspeech.errors import BudgetError

COUNTED = [("600", 600.0), ("0.6k", 600.0), ("6e2", 600.0), (".6K", 600.0), ("1.2M", 1.2e6), ("3m", 3e6), ("3G", 3e9)]
AMOUNTS: list[tuple[type[Quantity], str | float, float]] = [
    *((kind, text, amount) for kind in (Flops, Params) for text, amount in [*COUNTED, ("2t", 2e12), (600, 600.0)]),
    *((Size, text, amount) for text, amount in COUNTED),
    (Size, "80B", 80.0),
    (Size, "300kB", 3e5),
    (Size, "300 KB", 3e5),
    (Size, "1.2 MB", 1.2e6),
    (Size, "2GB", 2e9),
    (Size, "1TB", 1e12),
    (Size, "64KiB", 65_536.0),
    (Size, "2MiB", 2_097_152.0),
    (Latency, "2ms", 2e-3),
    (Latency, "500us", 5e-4),
    (Latency, "500µs", 5e-4),
    (Latency, "500μs", 5e-4),
    (Latency, "1.5 s", 1.5),
    (Latency, "0.005", 5e-3),
    (Latency, 0.005, 5e-3),
    (Latency, "5e-3s", 5e-3),
]
UNREADABLE = ["", "small", "-5", "0", "25%%", "1.2Q", "nan", "inf", "1e999", "25 % of it", "1,200", "5 5", "%", "k"]


@pytest.mark.parametrize(("kind", "text", "amount"), AMOUNTS)
def test_an_amount(kind: type[Quantity], text: str | float, amount: float) -> None:
    target = kind.parse(text)
    assert target.value == pytest.approx(amount, rel=1e-14)
    assert not target.relative
    assert target.amount(2 * amount) == target.value
    assert target.quantity is kind
    assert target.text == str(text)
    assert kind.limit(str(text), "--max") == target.value, "a limit is read as a target is"


@pytest.mark.parametrize("kind", quantities().values())
@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("0.25x", 0.25), ("100 %", 1.0), ("12.5%", 0.125)])
def test_a_share(kind: type[Quantity], text: str, share: float) -> None:
    target = kind.parse(text)
    assert (target.value, target.relative) == (share, True)
    assert target.amount(1000.0) == 1000 * share
    with pytest.raises(BudgetError, match=rf"^--max-x {text} is a share, .* \({kind.example}\)$"):
        kind.limit(text, "--max-x")


@pytest.mark.parametrize("kind", quantities().values())
@pytest.mark.parametrize("text", UNREADABLE)
def test_what_cannot_be_read(kind: type[Quantity], text: str) -> None:
    with pytest.raises(BudgetError, match=rf"cannot read the target '{text}': .* an amount \({kind.example}\)"):
        kind.parse(text)
    with pytest.raises(BudgetError, match=rf"cannot read --max-x '{text}': write an amount \({kind.example}\)"):
        kind.limit(text, "--max-x")


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Flops, "3ms"), (Params, "50kB"), (Size, "3ms"), (Size, "300kb"), (Latency, "2kB"), (Latency, "2m")],
)
def test_the_unit_of_something_else(kind: type[Quantity], text: str) -> None:
    with pytest.raises(BudgetError, match="cannot read"):
        kind.parse(text)


@pytest.mark.parametrize("kind", quantities().values())
def test_examples_can_be_read(kind: type[Quantity]) -> None:
    assert all(kind.limit(text, "--max") > 0 for text in kind.example.split(", "))


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        (Flops, 24_389_076, "24.4M FLOP/s"),
        (Params, 50_000, "50k parameters"),
        (Size, 300_000, "300 kB"),
        (Size, 80, "80 B"),
        (Size, 999_700, "1 MB"),
        (Latency, 0.002, "2 ms"),
        (Latency, 0.00042, "420 µs"),
        (Latency, 1.5, "1.5 s"),
        (Latency, 0.9996, "1 s"),
    ],
)
def test_text(kind: type[Quantity], amount: float, text: str) -> None:
    assert kind.text(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(24_389_076, "24.4M"), (999, "999"), (999_700, "1M"), (600_000, "600k")])
def test_human(amount: float, text: str) -> None:
    assert human(amount) == text
