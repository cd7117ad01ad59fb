"""What two processes do in tests/test_processes.py: fits, and parts of them, whose results each writes into a folder.

RANK=0 WORLD_SIZE=2 … python -m tests.several FOLDER
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import InputError, ProcessError, RecipeError, ShrinkSpeechError
from shrinkspeech.fitting.processes.in_step import InStep
from shrinkspeech.fitting.processes.split import Share
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.graph.captured import Captured
from shrinkspeech.rules.masked_norms import batch_norm
from shrinkspeech.surgery.noise import level, noise_like

aten = torch.ops.aten

FIT = "fit weights.pt --factory tiny:Net --recipe recipe.py --target-flops 50%".split()

STEPS = 12
SETTINGS = Settings(calibration=2)


class Net(nn.Module):
    """[B, 4, T] -> [B, 3]: batch statistics, random numbers and a state, in double precision so that errors show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 12, 3, padding=1), nn.BatchNorm1d(12)
        self.drop, self.gru, self.out = nn.Dropout(0.2), nn.GRU(12, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(torch.relu(self.norm(self.conv(x))))
        return self.out(self.gru(y.transpose(1, 2))[0].mean(1))


@cache
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Net().double().eval(), (torch.randn(2, 4, 8, dtype=torch.float64),))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Five items each: two processes have two and three of them."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        x = torch.randn(5, 4, 8, generator=generator, dtype=torch.float64)
        yield x, x.mean((1, 2)).argsort()


def rows(rank: int, count: int) -> Iterator[tuple[tuple[Tensor, Tensor], int]]:
    """As ``batches``, of one process."""
    share = Share.of(5, Team(rank, count))
    for x, y in batches():
        yield (share.rows(x), share.rows(y)), 5


def contrast(outputs: Tensor, batch: Any) -> Tensor:
    """No mean over items: each is compared with all others of the batch."""
    near = torch.cdist(outputs, outputs) + torch.eye(len(outputs), dtype=outputs.dtype)
    return near.log().square().sum() + outputs[batch[1]].diff(dim=0).abs().max()


def evaluate(model: Any) -> dict[str, float]:
    return {"rank": float(os.environ.get("RANK", 0)), "drawn": float(torch.rand(()))}


LABELLED = Recipe(batches, contrast, evaluate, name="labelled")
KINDS: dict[str, tuple[Recipe, Settings]] = {
    "labelled": (LABELLED, SETTINGS),
    "rows": (replace(LABELLED, train_rows=rows), SETTINGS),
    "unlabelled": (Recipe(batches, None), replace(SETTINGS, score="taylor")),
    "accumulated": (LABELLED, replace(SETTINGS, accumulate=2, checkpoint_activations=True)),
}


def fit(kind: str, **more: Any) -> Fitted:
    recipe, settings = KINDS[kind]
    return shrinkspeech.fit(captured(), recipe, target_flops="40%", steps=STEPS, settings=settings, **more)


def written(fitted: Fitted) -> dict[str, Any]:
    """What tests compare."""
    tensors = {name: x.detach().clone() for name, x in fitted.captured.parameters().items()}
    report = fitted.report
    return {
        "widths": dict(fitted.widths),
        "tensors": tensors,
        "loss": report.loss,
        "metrics": dict(report.metrics_after),
    }


# -- parts --------------------------------------------------------------------------------------------------------


def parts(team: Team) -> dict[str, tuple[Tensor, Tensor]]:
    """What each part gives for the own rows in step with the others, and what one process gives for all of them."""
    mode, share = InStep(team, {}), Share.of(5, team)
    mode.share = share
    generator = torch.Generator().manual_seed(2)
    whole = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    slopes = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    keep = torch.tensor([1.0, 0.5, 0.0, 1.0], dtype=torch.float64)

    def statistics() -> list[Tensor]:
        return [torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]

    def of(run: Callable[[Tensor, list[Tensor]], Tensor], mixed: bool = True) -> tuple[Tensor, Tensor]:
        """Outputs, gradients and running statistics."""
        found = []
        for x, slope in ((share.rows(whole), share.rows(slopes)), (whole, slopes)):
            torch.manual_seed(3)
            given, running = x.clone().requires_grad_(), statistics()
            if x is whole:
                y = run(given, running)
                y.backward(slope)
                assert given.grad is not None
                found.append(torch.cat([share.rows(y).flatten(), share.rows(given.grad).flatten(), *running]))
            else:
                with mode:
                    y = run(given, running)
                y.backward(slope)
                assert given.grad is not None
                found.append(torch.cat([y.flatten(), given.grad.flatten(), *running]))
        return found[0].detach(), found[1].detach()

    ones = torch.ones(3, dtype=torch.float64)
    return {
        "batch norm": of(lambda x, s: aten.batch_norm.default(x, ones, ones, *s, True, 0.1, 1e-5, False)),
        "masked": of(lambda x, s: batch_norm([None, keep], x, ones, ones, s[0], s[1], True, 0.1, 1e-5, False)),
        "instance norm": of(lambda x, s: aten.instance_norm.default(x, ones, ones, *s, True, 0.1, 1e-5, False)),
        "dropout": of(lambda x, s: aten.dropout.default(x, 0.5, True)),
        "feature dropout": of(lambda x, s: aten.feature_dropout.default(x, 0.5, True)),
        "dropout in place": of(lambda x, s: aten.dropout_.default(x * 1, 0.5, True)),
        "level": of(lambda x, s: x * level(x.detach(), 1)),
        "noise": of(lambda x, s: x * noise_like(x.detach(), 1, "")),
    }


def draws(team: Team) -> dict[str, Any]:
    """Other random operators: different in each process, and the generator stays where it is in all."""
    mode = InStep(team, {})
    mode.share = Share.of(5, team)
    torch.manual_seed(4)
    with mode:
        found = aten.alpha_dropout.default(torch.ones(mode.share.own, 50), 0.5, True)
    return {"found": found[:1], "after": torch.rand(2)}


def strays(progress: Progress) -> None:
    raise AssertionError("only the first process listens")


def main(folder: Path) -> None:
    team = Team.of_launcher()
    results: dict[str, Any] = {"parts": parts(team), "draws": draws(team)}
    listener: dict[str, Any] = {} if team.leads else {"on_progress": strays}
    for kind in KINDS:
        more = {"checkpoint": folder / "state", "checkpoint_every": 5} if kind == "labelled" else {}
        results[kind] = written(fit(kind, **more, **listener))
    results["resumed"] = written(fit("labelled", checkpoint=folder / "of_one", resume=True))
    results["moved"] = moved(team)
    results["first"] = [told(team, error) for error in (None, InputError("no such file"), ValueError("odd"))]
    results["most"] = team.most(3 * team.rank)
    results["apart"] = apart()
    results["command"] = command(folder)
    torch.save(results, folder / f"{team.rank}.pt")
    results["gone"] = gone(team)
    torch.save(results, folder / f"{team.rank}.pt")


def moved(team: Team) -> tuple[int, int]:
    """Bytes that a sum is counted with, and those of the tensor."""
    x, before = torch.ones(3, 5), team.moved
    team.sum(x)
    return team.moved - before, x.nbytes


def told(team: Team, error: Exception | None) -> tuple[str, str]:
    """What a process gets of a piece of work that the first one does: the kind of the result or of the error, and its text."""

    def work() -> int:
        if error is not None:
            raise error
        return team.rank

    try:
        return "result", str(team.first(work))
    except (ShrinkSpeechError, ValueError) as raised:
        return type(raised).__name__, str(raised)


def apart() -> str:
    """A recipe whose batches differ from process to process."""

    def others() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches():
            yield x + float(os.environ["RANK"]), y

    try:
        shrinkspeech.fit(captured(), replace(LABELLED, train_batches=others), target_flops="40%", steps=4)
    except RecipeError as error:
        return str(error)
    return ""


def command(folder: Path) -> dict[str, Any]:
    """What a process says and how it ends, of a fit, of one that is refused, and of a command that the first does alone."""
    from shrinkspeech_cli import several as speaking
    from shrinkspeech_cli.main import main as run

    speaking.part = lambda: None  # there is more to do together
    os.chdir(folder)
    found = {}
    for name, arguments in {
        "fit": [*FIT, "--steps", "4", "-o", "run", "--accumulate", "2", "--mixed-precision", "bf16"],
        "refused": [*FIT, "--steps", "4", "-o", "other", "--target-flops", "1"],
        "inspect": ["inspect", "weights.pt", "--factory", "tiny:Net", "--example", "2x800"],
    }.items():
        out, err, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                run(arguments)
            except SystemExit as ended:
                code = int(ended.code or 0)
        found[name] = (code, out.getvalue(), err.getvalue())
    return found


def gone(team: Team) -> str:
    """The second process is killed in its third step."""
    seen: list[int] = []

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        seen.append(1)
        if len(seen) == 12 and not team.leads:
            os.kill(os.getpid(), signal.SIGKILL)
        return contrast(outputs, batch)

    try:
        shrinkspeech.fit(captured(), replace(LABELLED, loss=loss), target_flops="40%", steps=200, settings=SETTINGS)
    except ProcessError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]).absolute())
