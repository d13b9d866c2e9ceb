"""Which keys does a configuration have, and what may stand there?

One form for each kind of mapping; its keys are the attributes of the object of the model that it builds, and the contract's
other forms.  Each form looks at its own part only: what two parts must agree on is in rules.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from pylb import model
from pylb.config import certificates
from pylb.config.balance import BalanceForm
from pylb.config.check import CheckForm
from pylb.config.fields import (
    UNSET,
    CertificateFile,
    Count,
    Duration,
    FailureWindow,
    Filled,
    Flag,
    InetListen,
    KeyFile,
    LastUsable,
    Listen,
    LoadFactor,
    LogFormat,
    LogPath,
    Method,
    MinVersion,
    Name,
    Network,
    NotYet,
    Number,
    Pattern,
    Percent,
    Permissions,
    ServerAddress,
    ServerName,
    Size,
    Text,
    Timeout,
    Workers,
    or_one,
)
from pylb.config.form import Form
from pylb.config.http_fields import FailOn, RouteHost, RoutePath, RouteRegex, WhereToRetry
from pylb.config.limits import QueueForm, RetryBudgetForm
from pylb.config.servers import ResolverForm, ServerForm, long_form
from pylb.config.sticky import StickyForm
from pylb.words import quoted

__all__ = ["HttpForm", "IncludedForm", "ListenerForm", "MainForm", "PoolForm", "TcpForm", "UdpForm"]


def _by_name(value: object) -> object:
    return value if isinstance(value, dict) else {"method": value}


class KeepaliveForm(Form):
    """Idle connections towards the servers."""

    builds = model.Keepalive

    connections: Count = UNSET
    requests: Number = UNSET
    time: Timeout = UNSET
    timeout: Timeout = UNSET


class UpstreamTLSForm(Form):
    """TLS towards the servers."""

    builds = model.UpstreamTLS

    verify: Flag = UNSET
    server_name: ServerName = UNSET
    ca: CertificateFile = UNSET

    @model_validator(mode="after")
    def _can_verify(self) -> UpstreamTLSForm:
        if self.verify is not False and self.ca is UNSET:
            certificates.system_bundle()
        return self


class SuccessRateForm(Form):
    """When servers are compared, and which one does too badly."""

    builds = model.SuccessRate

    minimum_hosts: Number = UNSET
    request_volume: Number = UNSET
    stdev_factor: LoadFactor = UNSET


class OutlierForm(Form):
    """Outlier detection."""

    builds = model.Outlier

    consecutive_errors: Number = UNSET
    interval: Timeout = UNSET
    base_ejection_time: Timeout = UNSET
    max_ejection_time: Timeout = UNSET
    max_ejected_percent: Percent = UNSET
    success_rate: SuccessRateForm = UNSET


class PoolForm(Form):
    """Servers, and how to choose among them."""

    builds = model.PoolSpec

    balance: Annotated[BalanceForm, BeforeValidator(_by_name, json_schema_input_type=Method | BalanceForm)] = UNSET
    servers: Filled[
        Annotated[ServerForm, BeforeValidator(long_form, json_schema_input_type=ServerAddress | ServerForm)]
    ]
    keepalive: KeepaliveForm = UNSET
    tls: UpstreamTLSForm = UNSET
    health_check: Annotated[Filled[CheckForm], or_one(CheckForm)] = UNSET
    sticky: StickyForm = UNSET
    fail_on: FailOn = UNSET
    failure_window: FailureWindow = UNSET
    outlier: OutlierForm = UNSET
    last_usable: LastUsable = UNSET
    panic_threshold: Percent = UNSET
    queue: QueueForm = UNSET
    max_pending: Count = UNSET
    max_retries: Count = UNSET
    retry_budget: RetryBudgetForm = UNSET
    hedge: Duration = UNSET


class CertificateForm(Form):
    """A certificate chain and its key."""

    builds = model.Certificate

    cert: CertificateFile
    key: KeyFile

    @field_validator("key")
    @classmethod
    def _fits(cls, key: str, info: ValidationInfo) -> str:
        if "cert" in info.data:
            certificates.key_of(key, info.data["cert"])
        return key


class ListenerTLSForm(Form):
    """TLS towards the clients."""

    builds = model.ListenerTLS

    certificates: Filled[CertificateForm]
    min_version: MinVersion = UNSET
    client_ca: NotYet = UNSET


class _AnyListenerForm(Form):
    listen: Annotated[Filled[Listen], or_one(Listen)]
    reuseport: Flag = UNSET

    @classmethod
    def unknown(cls, key: str) -> str:
        forms: dict[str, type[Form]] = {"http": HttpForm, "tcp": TcpForm, "udp": UdpForm}
        owners = [protocol for protocol, form in forms.items() if key in form.model_fields]
        if not owners:
            return super().unknown(key)
        return f"{quoted(key)} is not for this protocol, but for {' and '.join(owners)}"


class _StreamForm(_AnyListenerForm):
    mode: Permissions = UNSET
    backlog: Number = UNSET
    tls: ListenerTLSForm = UNSET
    connect_timeout: Timeout = UNSET
    timeout: Timeout = UNSET
    next_upstream_tries: Count = UNSET
    next_upstream_timeout: Duration = UNSET
    tcp_nodelay: Flag = UNSET
    so_keepalive: Flag = UNSET
    socket_keepalive: Flag = UNSET
    accept_proxy_protocol: NotYet = UNSET
    send_proxy_protocol: NotYet = UNSET


class TcpForm(_StreamForm):
    """A TCP listener."""

    builds = model.TcpListener

    protocol: Literal["tcp"]
    pool: Text
    half_close: Flag = UNSET
    upload_rate: Size = UNSET
    download_rate: Size = UNSET
    next_upstream: Flag = UNSET


class UdpForm(_AnyListenerForm):
    """A UDP listener."""

    builds = model.UdpListener

    protocol: Literal["udp"]
    listen: Annotated[Filled[InetListen], or_one(InetListen)]
    pool: Text
    responses: Count = UNSET
    requests: Count = UNSET
    timeout: Timeout = UNSET
    max_sessions: Number = UNSET
    accept_proxy_protocol: NotYet = UNSET
    send_proxy_protocol: NotYet = UNSET


class RouteForm(Form):
    """Which requests go to which pool."""

    builds = model.Route

    pool: Text
    host: RouteHost = UNSET
    path: RoutePath = UNSET
    exact: RoutePath = UNSET
    regex: RouteRegex = UNSET


class HttpForm(_StreamForm):
    """An HTTP listener; `pool` alone is short for one route with the path `/`."""

    builds = model.HttpListener

    protocol: Literal["http"]
    pool: Text = UNSET
    routes: Filled[RouteForm] = UNSET
    send_timeout: Timeout = UNSET
    read_timeout: Timeout = UNSET
    next_upstream: WhereToRetry = UNSET
    client_max_body_size: Size = UNSET
    client_header_timeout: Timeout = UNSET
    client_body_timeout: Timeout = UNSET
    keepalive_timeout: Timeout = UNSET

    def given(self) -> dict[str, Any]:
        given = super().given()
        if "pool" in given:
            given["routes"] = (model.Route(pool=given.pop("pool"), path="/"),)
        return given


class AccessLogForm(Form):
    """The access log."""

    builds = model.AccessLog

    path: LogPath = UNSET
    format: LogFormat = UNSET


ListenerForm: TypeAlias = Annotated[TcpForm | UdpForm | HttpForm, Field(discriminator="protocol")]


class IncludedForm(Form):
    """A file that another one includes."""

    builds = model.Config

    include: list[Pattern] = []
    pools: dict[Name, PoolForm] = {}
    listeners: dict[Name, ListenerForm] = {}

    @classmethod
    def unknown(cls, key: str) -> str:
        if key in MainForm.model_fields:
            return f"{quoted(key)} belongs in the main file; an included one holds pools, listeners and include"
        return super().unknown(key)


class MainForm(IncludedForm):
    """The main file."""

    workers: Workers = UNSET
    shutdown_timeout: Duration = UNSET
    trusted_proxies: list[Network] = UNSET
    max_connections: Count = UNSET
    access_log: AccessLogForm = UNSET
    admin: NotYet = UNSET
    resolver: ResolverForm = UNSET

    def given(self) -> dict[str, Any]:
        return {key: value for key, value in super().given().items() if key not in IncludedForm.model_fields}
