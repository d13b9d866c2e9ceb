"""How is said what happens when a pool's servers have more to do than they can?"""

from __future__ import annotations

from pylb import model
from pylb.config.fields import UNSET, Count, HashKey, Number, Percent, Timeout
from pylb.config.form import Form

__all__ = ["QueueForm", "RetryBudgetForm"]


class QueueForm(Form):
    """Who waits for a server."""

    builds = model.Queue

    size: Number
    timeout: Timeout = UNSET
    priority: HashKey = UNSET


class RetryBudgetForm(Form):
    """How many retries may be under way."""

    builds = model.RetryBudget

    percent: Percent = UNSET
    min_retries: Count = UNSET
