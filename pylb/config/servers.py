"""Which keys does a server have, and who is asked for its name?"""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator, model_validator

from pylb import model
from pylb.config.fields import (
    UNSET,
    Count,
    Duration,
    Filled,
    Flag,
    NameServer,
    Number,
    ServerPlace,
    ServiceName,
    Timeout,
)
from pylb.config.form import Form
from pylb.config.sticky import RouteName
from pylb.words import quoted

__all__ = ["ResolverForm", "ServerForm", "long_form"]


class ServerForm(Form):
    """One of a pool's servers."""

    builds = model.ServerSpec

    # Before `address`, which may look at it only then.
    service: ServiceName = UNSET
    resolve: Flag = UNSET
    address: ServerPlace
    weight: Number = UNSET
    backup: Flag = UNSET
    down: Flag = UNSET
    max_fails: Count = UNSET
    fail_timeout: Duration = UNSET
    max_conns: Count = UNSET
    slow_start: Duration = UNSET
    drain: Flag = UNSET
    route: RouteName = UNSET

    @field_validator("address")
    @classmethod
    def _port(cls, address: model.Address, info: ValidationInfo) -> model.Address:
        # A service that was written wrongly is not there: whether it wants a port cannot be said.
        service = info.data.get("service", "?")
        if service != "?" and isinstance(address, model.InetAddress) and not address.is_literal:
            if not address.port and not service:
                raise ValueError(f"{quoted(address.host)} has no port")
            if address.port and service:
                raise ValueError(f'the ports come with the "service": write {quoted(address.host)} alone')
        return address

    @model_validator(mode="after")
    def _one_state(self) -> ServerForm:
        if self.drain and self.down:
            raise ValueError('"down" serves nobody, "drain" only those that belong to it: take one')
        return self

    @model_validator(mode="after")
    def _can_follow(self) -> ServerForm:
        if (self.resolve or self.service) and self.address.is_literal:
            raise ValueError(f"a name can be followed in DNS, and {quoted(str(self.address))} is none")
        if self.service and not self.resolve:
            raise ValueError('a "service" is followed in DNS: write "resolve: true" as well')
        return self


def long_form(value: object) -> object:
    """What a server's address alone is short for."""
    return {"address": value} if isinstance(value, str | int) else value


class ResolverForm(Form):
    """The DNS servers that are asked for names."""

    builds = model.Resolver

    addresses: Filled[NameServer] = UNSET
    valid: Timeout = UNSET
    timeout: Timeout = UNSET
    ipv4: Flag = UNSET
    ipv6: Flag = UNSET

    @model_validator(mode="after")
    def _some_addresses(self) -> ResolverForm:
        if self.ipv4 is False and self.ipv6 is False:
            raise ValueError('"ipv4" and "ipv6" are both off: there would be no addresses')
        return self
