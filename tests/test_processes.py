"""One fit in two processes: the same widths and weights as in one, each item once, and an end where one of them dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests import command, several

LIMIT = 240
"""In s: so long the processes may take, the death of one included."""

Results = list[dict[str, Any]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def started(arguments: list[str], size: int = 2, **more: Any) -> list[subprocess.Popen[str]]:
    """Processes as ``torchrun`` starts them."""
    common = {
        **os.environ,
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit codes, stdout and stderr; none outlives this."""
    try:
        texts = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The fits of one process, the first of which leaves its state."""
    folder = tmp_path_factory.mktemp("several")
    kept = {"labelled": {"checkpoint": folder / "one", "checkpoint_every": 5}}
    found = {kind: several.written(several.fit(kind, **kept.get(kind, {}))) for kind in several.KINDS}
    namespace: dict[str, Any] = {}
    exec(compile(command.MODEL, "tiny.py", "exec"), namespace)
    torch.save(namespace["Net"]().state_dict(), folder / "weights.pt")
    (folder / "tiny.py").write_text(command.MODEL)
    (folder / "recipe.py").write_text(command.BATCHES + command.LOSS + command.EVALUATE)
    (folder / "one.previous").rename(folder / "of_one")
    return {**found, "folder": folder}


@pytest.fixture(scope="module")
def together(alone: dict[str, Any]) -> Results:
    """What two processes wrote, and how they ended."""
    folder = alone["folder"]
    found = ended(started(["-m", "tests.several", str(folder)]))
    if found[0][0] != 0:
        pytest.fail(found[0][2])
    results = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    return [{**result, "code": code} for result, (code, _, _) in zip(results, found, strict=True)]


def same(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 1e-6) -> None:
    assert found["widths"] == wanted["widths"]
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    for name, x in wanted["tensors"].items():
        torch.testing.assert_close(found["tensors"][name], x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", several.KINDS)
def test_two_processes_fit_what_one_does(kind: str, alone: dict[str, Any], together: Results) -> None:
    for result in together:
        same(result[kind], alone[kind])
    first, second = (result[kind]["tensors"] for result in together)
    assert all(torch.equal(x, second[name]) for name, x in first.items())


def test_every_unit_had_a_chance(alone: dict[str, Any]) -> None:
    """The comparison says something: groups have shrunk, each to another width, and the loss is one of whole batches."""
    widths = alone["labelled"]["widths"]
    assert min(widths.values()) > 0
    assert sum(widths.values()) < 12 + 10


@pytest.mark.parametrize(
    "part",
    ["batch norm", "masked", "instance norm", "dropout", "feature dropout", "dropout in place", "level", "noise"],
)
def test_parts_of_a_model_give_what_they_give_for_the_whole_batch(part: str, together: Results) -> None:
    for result in together:
        found, wanted = result["parts"][part]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_other_random_operators_draw_apart_and_leave_the_generators_in_step(together: Results) -> None:
    one, other = (result["draws"] for result in together)
    assert not torch.equal(one["found"], other["found"])
    assert torch.equal(one["after"], other["after"])


def test_the_first_process_evaluates_for_all(alone: dict[str, Any], together: Results) -> None:
    assert [result["labelled"]["metrics"]["rank"] for result in together] == [0.0, 0.0]
    assert together[1]["labelled"]["metrics"] == alone["labelled"]["metrics"]


def test_a_fit_goes_on_in_another_number_of_processes(alone: dict[str, Any], together: Results) -> None:
    folder = alone["folder"]
    for result in together:
        same(result["resumed"], alone["labelled"])
    again = several.written(several.fit("labelled", checkpoint=folder / "state.previous", resume=True))
    same(again, together[0]["labelled"])


def test_what_the_first_process_finds_all_have(together: Results) -> None:
    one, other = (result["first"] for result in together)
    assert one == [("result", "0"), ("InputError", "no such file"), ("ValueError", "odd")]
    assert other == [("result", "0"), ("InputError", "no such file"), ("ProcessError", "process 0 failed: odd")]
    assert [result["most"] for result in together] == [3, 3]


def test_bytes_are_counted(together: Results) -> None:
    assert [result["moved"] for result in together] == [(60, 60), (60, 60)]


def test_batches_that_differ_are_refused(together: Results) -> None:
    for result in together:
        assert "yields other batches in each process: seed what it draws" in result["apart"]


def test_the_first_process_alone_writes_and_speaks(alone: dict[str, Any], together: Results) -> None:
    (code, out, err), (other_code, *nothing) = (result["command"]["fit"] for result in together)
    assert (code, other_code) == (0, 0)
    assert nothing == ["", ""]
    assert "budget of" in out
    assert err.count("step 4/4  tune") == 1
    names = {path.name for path in (alone["folder"] / "run").iterdir()}
    assert names == {"model.safetensors", "model.pt2", "widths.json", "report.json", "origin.json", "SHA256SUMS"}


def test_an_error_of_all_is_said_once(together: Results) -> None:
    (code, _, err), (other_code, _, nothing) = (result["command"]["refused"] for result in together)
    assert (code, other_code) == (2, 2)
    assert err.startswith("Error: the target")
    assert err.count("\n") == 1
    assert nothing == ""


def test_what_is_no_fit_the_first_process_does_alone(together: Results) -> None:
    (code, out, _), other = (result["command"]["inspect"] for result in together)
    assert code == 0
    assert "inside" in out
    assert other == (0, "", "")


def test_where_one_dies_the_others_end(together: Results) -> None:
    assert [result["code"] for result in together] == [0, -9]
    assert together[0]["gone"].startswith("process 0 of 2 ends, because another one has ended")
