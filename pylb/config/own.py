"""Which class is a balancing method, or a health check, of somebody's own?

`module:Class` names it.  The module is looked for where Python looks (`sys.path`) and then in the folder of the file that
names it, like every relative path in that file; importing it runs it.  From Python the class itself may stand there.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from pylb.words import did_you_mean, quoted

__all__ = ["NAME", "Own", "own_class"]

#: How a file names one.
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class Own(NamedTuple):
    """A class of somebody's own, and its name."""

    name: str
    made_by: type[Any]

    def __str__(self) -> str:
        return self.name


def own_class(value: str | type[Any], folder: str, what: str, needed: Sequence[str]) -> Own:
    """The class that a file in `folder` names, or that is given itself; raises ValueError.

    `what` it is to be needs methods of the names `needed`.
    """
    if isinstance(value, type):
        return Own(f"{value.__module__}:{value.__qualname__}", _checked(value, what, needed))
    if not NAME.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not of the form module:Class")
    module_name, _, name = value.partition(":")
    module = _imported(module_name, folder)
    if not hasattr(module, name):
        classes = [known for known, it in vars(module).items() if isinstance(it, type)]
        raise ValueError(f"the module {quoted(module_name)} has no {quoted(name)}{did_you_mean(name, classes)}")
    return Own(value, _checked(getattr(module, name), what, needed))


def _imported(name: str, folder: str) -> ModuleType:
    try:
        with _looking_in(folder):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"no module {quoted(error.name)}, neither in Python's sys.path nor in {folder}") from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


@contextmanager
def _looking_in(folder: str) -> Iterator[None]:
    """Let imports look in `folder`, after all other places."""
    importlib.invalidate_caches()
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _broken(name: str, error: BaseException) -> ValueError:
    text = " ".join(str(error).split())
    return ValueError(f"the module {quoted(name)} cannot be imported: {type(error).__name__}: {text}")


def _checked(found: Any, what: str, needed: Sequence[str]) -> type[Any]:
    name = getattr(found, "__qualname__", None) or repr(found)
    if not isinstance(found, type):
        raise ValueError(f"{quoted(name)} is no class, and a {what} is one")
    lacking = [need for need in needed if not callable(getattr(found, need, None))]
    if lacking:
        raise ValueError(f"{quoted(name)} is no {what}, it lacks {' and '.join(lacking)}")
    return found
