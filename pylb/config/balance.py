"""Which keys does each balancing method have?"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from pylb import model
from pylb.config.fields import UNSET, BetterOfTwo, Flag, HashKey, LoadFactor, Method, Metric
from pylb.config.form import Form
from pylb.config.own import Own
from pylb.words import quoted

__all__ = ["BalanceForm"]

#: The methods that have a key, for the keys that not all have.
_METHODS_WITH = {
    "key": ("hash", "maglev"),
    "consistent": ("hash",),
    "bounded_load": ("hash", "maglev"),
    "two": ("random",),
    "metric": ("least_time", "peak_ewma", "random"),
    "inflight": ("least_time",),
}


class BalanceForm(Form):
    """How to choose; the name of a method alone is short for a mapping with it."""

    builds = model.Balance

    method: Method
    key: HashKey = UNSET
    consistent: Flag = UNSET
    bounded_load: LoadFactor = UNSET
    two: BetterOfTwo = UNSET
    metric: Metric = UNSET
    inflight: Flag = UNSET

    def given(self) -> dict[str, Any]:
        given = super().given()
        if isinstance(self.method, Own):
            given |= {"method": self.method.name, "own": self.method.made_by}
        return given

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> BalanceForm:
        for key, methods in _METHODS_WITH.items():
            if getattr(self, key) is not UNSET and self.method not in methods:
                raise ValueError(f"{quoted(key)} belongs to the method {' or '.join(methods)}, not to {self.method}")
        if self.method in _METHODS_WITH["key"] and self.key is UNSET:
            raise ValueError('"key" is missing: what is to be hashed, such as $remote_addr?')
        if self.bounded_load is not UNSET and self.method == "hash" and not self.consistent:
            raise ValueError('"bounded_load" needs "consistent: true": else a key has no next server to go on to')
        self._check_metric()
        return self

    def _check_metric(self) -> None:
        by_time = self.method in ("least_time", "peak_ewma") or self.two == "least_time"
        if by_time and self.metric is UNSET:
            known = ", ".join(f"{' or '.join(moments)} for {protocol}" for protocol, moments in model.MOMENTS.items())
            raise ValueError(f'"metric" is missing: until when is the time measured? {known}')
        if self.metric is not UNSET and not by_time:
            raise ValueError('"metric" needs "two: least_time": else random compares no times')
