"""From all that was read to one `Config`, or to every mistake in the order of the files and their lines."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from pylb.config.document import Document
from pylb.config.form import validate
from pylb.config.mistakes import ConfigError, Mistake
from pylb.config.rules import disagreements
from pylb.config.schema import IncludedForm, MainForm
from pylb.config.sources import Sources
from pylb.model import Config, Listener, PoolSpec

__all__ = ["build"]


def build(sources: Sources) -> Config:
    """The configuration that the sources ask for; raises ConfigError."""
    mistakes = list(sources.mistakes)
    forms: list[tuple[Document, IncludedForm]] = []
    for place, document in enumerate(sources.documents):
        form, wrong = validate(IncludedForm if place else MainForm, document)
        mistakes += wrong
        if form is not None:
            forms.append((document, form))
    if sources.documents:
        mistakes += disagreements(sources.documents, sources.complete)
    if mistakes:
        raise ConfigError(_in_order(mistakes, sources.documents))
    return _config(forms)


def _in_order(mistakes: Iterable[Mistake], documents: list[Document]) -> list[Mistake]:
    files = {document.file: place for place, document in enumerate(documents)}
    return sorted(mistakes, key=lambda it: (files.get(it.file, len(files)), it.line, it.column))


def _config(forms: list[tuple[Document, IncludedForm]]) -> Config:
    pools: dict[str, PoolSpec] = {}
    listeners: dict[str, Listener] = {}
    for document, form in forms:
        for name, pool in form.pools.items():
            pools[name] = pool.build(name=name)
        for name, listener in form.listeners.items():
            origin = document.where(("listeners", name, "listen"))
            listeners[name] = listener.build(name=name, origin=origin)
    main: Any = forms[0][1]
    config: Config = main.build(pools=MappingProxyType(pools), listeners=MappingProxyType(listeners))
    return config
