"""How is said what happens when a pool's servers have more to do than they can?"""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator

from pylb import model
from pylb.config import shapes
from pylb.config.fields import UNSET, Count, Number, Percent, Timeout
from pylb.config.form import Form
from pylb.variables import check_key
from pylb.words import quoted

__all__ = ["QueueForm", "RetryBudgetForm"]


def _priority(value: object) -> str:
    if not isinstance(value, str) or "$" not in value:
        raise ValueError(f"must name a variable, such as $http_x_priority, not {quoted(value)}")
    if mistake := check_key(value):
        raise ValueError(mistake)
    return value


_Priority = Annotated[str, PlainValidator(_priority), shapes.TEMPLATE]


class QueueForm(Form):
    """Who waits for a server."""

    builds = model.Queue

    size: Number
    timeout: Timeout = UNSET
    priority: _Priority = UNSET


class RetryBudgetForm(Form):
    """How many retries may be under way."""

    builds = model.RetryBudget

    percent: Percent = UNSET
    min_retries: Count = UNSET
