"""The method on a model whose right widths are known: the fit must find them, and nothing narrower may do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sample_models.synthetic as sample
from sample_models.synthetic import evaluate as ev
from sample_models.synthetic.data import Teacher
from sample_models.synthetic.model import Student, load

STEPS = 400


@pytest.fixture(scope="module")
def student() -> Student:
    return load(Path(sample.__file__).with_name("weights.safetensors"))


def test_the_fit_finds_the_known_widths(student: Student) -> None:
    teacher = Teacher.of(0)
    found = ev.shrink(student, teacher, "whole", ev.UNIT * sum(teacher.widths), STEPS, seed=0)
    assert sum(found.widths) == sum(teacher.widths)
    assert found.off(teacher.widths) <= 1
    # The error of a unit in the wrong branch, and little more; uniform widths would miss five units.
    assert found.error <= teacher.least_error(found.widths) + 2.0 < teacher.least_error((9, 9, 9))


def test_fewer_units_than_known_cannot_do_it(student: Student) -> None:
    teacher = Teacher.of(0)
    found = ev.shrink(student, teacher, "uniform", ev.UNIT * sum(teacher.widths), STEPS, seed=0)
    assert found.widths == (9, 9, 9)
    # 0.5: the power of a finite sample is not quite the same in all directions.
    assert found.error >= teacher.least_error(found.widths) - 0.5
    assert ev.test_error(student, teacher) < 0.01


def test_teachers_have_orthogonal_equal_directions() -> None:
    for seed in range(5):
        teacher = Teacher.of(seed)
        x, y = next(teacher.batches(0, 20_000))
        assert y.shape == (len(x), ev.OUTPUTS * len(teacher.widths))
        for width, part in zip(teacher.widths, y.split(ev.OUTPUTS, dim=1), strict=True):
            powers = torch.linalg.eigvalsh(part.T @ part / len(x)).flip(0)
            assert powers[width - 1] > 0.8 * powers[0]
            assert powers[width:].abs().max() < 1e-5 * powers[0]
