"""The registry of tasks. A task registers itself beside its class:

    @task("vad")
    @dataclass
    class Vad(Task):
        ...

A file of this folder need not be imported anywhere else. Names are read from the text of the files, for importing one takes
torch, and ``--help`` must not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shrinkspeech.errors import InputError

if TYPE_CHECKING:
    from shrinkspeech.tasks.base import Task

T = TypeVar("T", bound="Task")
_TASKS: dict[str, type[Task]] = {}


def task(name: str) -> Callable[[type[T]], type[T]]:
    """Register a class as the task of a name. A second one under that name raises."""

    def register(kind: type[T]) -> type[T]:
        holder = _TASKS[name].__module__ if name in _TASKS else _written().get(name, kind.__module__)
        if name in _TASKS or holder != kind.__module__:
            raise ValueError(f"there is a task '{name}' already, in {holder}")
        kind.name = name
        _TASKS[name] = kind
        return kind

    return register


def task_names() -> tuple[str, ...]:
    """Every task that is registered, or that a file of this folder will register."""
    return tuple(sorted({*_written(), *_TASKS}))


def task_class(name: str) -> type[Task]:
    """The class of a task; its file is imported if need be.

    Raises:
        InputError: there is no task of that name.
    """
    if name not in _TASKS and name in _written():
        import_module(_written()[name])
    if name not in _TASKS:
        raise InputError(f"there is no task '{name}': --task is {', '.join(task_names())}")
    return _TASKS[name]


@cache
def _written() -> dict[str, str]:
    return written(sorted(Path(__file__).parent.glob("*.py")))


def written(files: Iterable[Path]) -> dict[str, str]:
    """Module of every task that files of this package declare, by the task's name. A name that comes twice raises."""
    found: dict[str, str] = {}
    for file in files:
        module = f"{__package__}.{file.stem}"
        for name in _declared(file.read_text(encoding="utf-8")):
            if name in found:
                raise ValueError(f"there is a task '{name}' in {found[name]} and in {module}")
            found[name] = module
    return found


def _declared(text: str) -> Iterator[str]:
    """Names in the decorators ``@task("…")`` of a file."""
    for node in ast.parse(text).body if "\n@task(" in text else ():
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            match decorator:
                case ast.Call(func=ast.Name(id="task"), args=[ast.Constant(value=str(name))]):
                    yield name
