"""pylb.config.json_schema: what an editor is told, beside what pylb does."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import ConfigError, from_dict
from pylb.config.json_schema import as_text, json_schema
from pylb.config.reference import entries
from pylb.config.yaml import NotYaml, parse
from tests.config.keys import FIELDS, KEYS, NOT_YET, reader
from tests.config.test_example import ETC, uncommented
from tests.config.test_scalars import ANYTHING
from tests.test_docs import PAGES, ROOT, examples

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
FILES = sorted(ETC.rglob("*.yaml"))
STORED = ETC / "lb.schema.json"

#: What makes a schema say anything at all.
SAYING = {"type", "enum", "const", "anyOf", "oneOf", "$ref"}
#: Letters after a backslash that ECMAScript knows in its strict (u) mode.
ESCAPES = set("dws0^$\\.*+?()[]{}|/-")


def tree(text: str) -> Any:
    """A text as pylb reads it."""
    return parse(text.encode())[0]


def below(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """A schema and all within it, each with the path of what it is about."""
    yield path, schema
    if "$ref" in schema:
        yield from below(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], path)
    forms = (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    # What may stand where a list of such can is what its items are.
    item = (*path, "*") if any("items" in form for form in forms) else path
    for inner in forms:
        yield from below(inner, path if "items" in inner else item)
    for key, inner in schema.get("properties", {}).items():
        yield from below(inner, (*path, key))
    for inner in (*schema.get("patternProperties", {}).values(), *filter(None, [schema.get("items")])):
        yield from below(inner, (*path, "*"))


def said(path: str, word: str) -> list[Any]:
    """What the schema has under a word for a key, in every form that has the key."""
    return [schema[word] for place, schema in below(SCHEMA) if ".".join(place) == path and word in schema]


class SchemaTests(SynchronousTestCase):
    def test_itself(self) -> None:
        """It is a schema of the draft that it names."""
        self.assertEqual("https://json-schema.org/draft/2020-12/schema", SCHEMA["$schema"])
        Draft202012Validator.check_schema(SCHEMA)

    def test_stored(self) -> None:
        """etc/lb.schema.json is what pylb says now.  If not: `make schema`."""
        self.assertEqual(STORED.read_text().splitlines(), as_text().splitlines())

    def test_keys(self) -> None:
        """It has the keys that the forms and the documentation have, and not those that are not supported yet."""
        known = {".".join(path) for path, _ in below(SCHEMA) if path and path[-1] != "*"}
        self.assertEqual((KEYS, KEYS), (known, {entry.path for entry in entries()}))
        self.assertEqual(set(), known & NOT_YET)

    def test_every_value(self) -> None:
        """Of no value is nothing said: a field without a shape would take anything."""
        self.assertEqual([], [path for path, schema in below(SCHEMA) if not SAYING & schema.keys()])

    def test_every_description(self) -> None:
        """Every key that a mapping has is described where it stands."""
        mappings = [(path, schema["properties"]) for path, schema in below(SCHEMA) if "properties" in schema]
        keys = [((*path, key), schema) for path, keys in mappings for key, schema in keys.items()]
        self.assertEqual([], [path for path, schema in keys if not schema.get("description")])

    def test_what_the_page_says(self) -> None:
        """Descriptions and defaults are the page's, for each kind of a mapping its own."""
        self.assertEqual(["The server's share."], said("pools.*.servers.*.weight", "description"))
        self.assertEqual({"30s", "10m"}, set(said("listeners.*.timeout", "default")))
        self.assertEqual(3, len(set(said("listeners.*.pool", "description"))))

    def test_defaults(self) -> None:
        """A default could be written."""
        for path, schema in below(SCHEMA):
            if "default" in schema:
                errors = list(VALIDATOR.evolve(schema=schema).iter_errors(schema["default"]))
                self.assertEqual([], errors, path)

    def test_patterns(self) -> None:
        """Editors can compile the patterns: nothing in them is Python's alone."""
        patterns = {schema["pattern"] for _, schema in below(SCHEMA) if "pattern" in schema}
        self.assertIn(r"\$", patterns)
        for pattern in patterns:
            self.assertEqual(set(), set(re.findall(r"\\(.)", pattern)) - ESCAPES, pattern)
            self.assertNotRegex(pattern, r"\(\?[^:=!]")


class _Yaml12(yaml.SafeLoader):
    """As editors read: the core schema of YAML 1.2."""


_Yaml12.yaml_implicit_resolvers = {
    None: [
        (f"tag:yaml.org,2002:{name}", re.compile(form))
        for name, form in {
            "null": r"(?:~|null|Null|NULL|)\Z",
            "bool": r"(?:true|True|TRUE|false|False|FALSE)\Z",
            "int": r"[-+]?[0-9]+\Z",
            "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z",
        }.items()
    ]
}


class RightTests(SynchronousTestCase):
    def right(self, document: object) -> None:
        self.assertEqual([], [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)])

    def test_files(self) -> None:
        """The configurations of etc/, the example with everything switched on, too."""
        self.assertEqual({"lb.yaml", "demo.yaml", "redis.yaml"}, {path.name for path in FILES})
        for text in [*(path.read_text() for path in FILES), uncommented()]:
            self.right(tree(text))
            self.right(yaml.load(text, Loader=_Yaml12))

    def test_first_line(self) -> None:
        """Each names the schema, by the way from itself to it."""
        for path in FILES:
            first, _, _ = path.read_text().partition("\n")
            found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
            assert found, path
            self.assertTrue((path.parent / found[1]).samefile(STORED), path)

    def test_pages(self) -> None:
        """The examples of the documentation."""
        found = [example for page in PAGES for example in examples(page, "yaml")]
        self.assertGreater(len(found), 3)
        for example in found:
            self.right(tree(example))

    def test_short_forms(self) -> None:
        """What a scalar is short for."""
        self.right(tree("pools: {a: {balance: least_conn, servers: [10.0.0.1:80, 'unix:/run/a', '[::1]:80']}}"))
        for listen in ("80", "'[::]:80'", "unix:a", "[80, 127.0.0.1:81]"):
            self.right(tree(f"listeners: {{w: {{protocol: tcp, listen: {listen}, pool: a}}}}"))


#: Documents, each with an @ where something is missing.
SERVER = "pools: {a: {servers: [10.0.0.1:80, @]}}\nlisteners: {w: {protocol: tcp, listen: 8080, pool: a}}"
POOL = "pools: {a: {servers: [10.0.0.1:80], @}}\nlisteners: {w: {protocol: tcp, listen: 8080, pool: a}}"
LISTENERS = "pools: {a: {servers: [10.0.0.1:80]}}\nlisteners: @"
HTTP = LISTENERS.replace("@", "{w: {protocol: http, listen: 80, @}}")
TCP = LISTENERS.replace("@", "{w: {protocol: tcp, pool: a, @}}")
UDP = LISTENERS.replace("@", "{w: {protocol: udp, pool: a, @}}")
TOP = LISTENERS.replace("@", "{w: {protocol: tcp, listen: 80, pool: a}}\n@")
WRONG = {
    SERVER: [
        "{address: 10.0.0.2:80, wieght: 3}",
        "{address: 10.0.0.2:80, weight: 0}",
        "{address: 10.0.0.2:80, weight: -1}",
        "{address: 10.0.0.2:80, weight: 1.5}",
        "{address: 10.0.0.2:80, weight: '3'}",
        "{address: 10.0.0.2:80, max_conns: x}",
        "{address: 10.0.0.2:80, backup: on}",
        "{address: 10.0.0.2:80, down: }",
        "{address: 10.0.0.2:80, fail_timeout: 5 s}",
        "{address: 10.0.0.2:80, fail_timeout: 5x}",
        "{address: 10.0.0.2:80, slow_start: -1s}",
        "{address: a.test, resolve: true, service: a b}",
        "{address: a.test:80, resolve: yes}",
        "{address: 10.0.0.2:80, route: a b}",
        "{weight: 2}",
        "10.0.0.2",
        "8080",
        "[10.0.0.2:80]",
        "null",
    ],
    POOL: [
        "balance: rond_robin",
        "balance: {method: hsh}",
        "balance: {key: $uri}",
        "balance: {method: hash, key: all}",
        "balance: {method: random, two: ip_hash}",
        "balance: {method: least_time, metric: never}",
        "balance: [hash]",
        "balance: {method: maglev, key: $remote_addr, bounded_load: 0.5}",
        "balance: null",
        "health_check: {}",
        "health_check: []",
        "health_check: {type: htp}",
        "health_check: {type: http, uri: health}",
        "health_check: {type: http, method: get}",
        "health_check: {type: http, interval: 0}",
        "health_check: [{type: tcp, fails: 0}]",
        "health_check: {type: tcp, port: 70000}",
        "health_check: {type: http, match: {status: 99}}",
        "health_check: {type: http, match: {header: {a: 1}}}",
        "health_check: {type: http, match: {body: welcome}}",
        "health_check: {type: http, match: {bodi: ~ welcome}}",
        "health_check: {type: udp, preset: snmp}",
        "health_check: {type: exec, command: []}",
        "health_check: {type: exec, command: run}",
        "health_check: {type: http, persistent: 1}",
        "fail_on: [http_200]",
        "fail_on: []",
        "failure_window: 5s",
        "outlier: {consecutive_errors: 0}",
        "outlier: {success_rate: {stdev_factor: 0.5}}",
        "last_usable: kept",
        "panic_threshold: 101",
        "keepalive: 32",
        "keepalive: {requests: 0}",
        "keepalive: {time: 0}",
        "keepalive: {time: 0s}",
        "keepalive: {time: }",
        "keepalive: {time: 1s5m}",
        "sticky: {name: id}",
        "sticky: {type: cokie, name: id}",
        "sticky: {type: cookie, name: a b}",
        "sticky: {type: cookie, name: id, secret: short}",
        "sticky: {type: cookie, name: id, samesite: maybe}",
        "sticky: {type: cookie, name: id, expires: never}",
        "sticky: {type: route, variables: remote_addr}",
        "sticky: {type: route, variables: []}",
        "tls: true",
        "severs: []",
    ],
    HTTP: [
        "pool: a, next_upstream: [eror]",
        "pool: a, next_upstream: []",
        "pool: a, next_upstream: true",
        "pool: a, client_max_body_size: 10q",
        "pool: a, half_close: true",
        "routes: []",
        "routes: [{path: /}]",
        "routes: [{pool: a, path: api}]",
        "routes: [{pool: a, exact: '/a?b'}]",
        "routes: [{pool: a, exact: '/a#b'}]",
        "pool: a, tls: {}",
        "pool: a, tls: {certificates: [{cert: a.pem}]}",
        "pool: a, mode: 660",
        "pool: a, mode: '0668'",
    ],
    TCP: [
        "listen: []",
        "listen: 0",
        "listen: 65536",
        "listen: localhost:80",
        "listen: [80, {}]",
        "listen: 80, connect_timeout: 0",
        "listen: 80, next_upstream: [error]",
        "listen: 80, responses: 1",
        "mode: '0660'",
    ],
    UDP: ["listen: unix:/run/a", "listen: 80, tls: {}", "listen: 80, max_sessions: 0"],
    LISTENERS: [
        "{w: {protocol: htpp, listen: 80, pool: a}}",
        "{w: {listen: 80, pool: a}}",
        "{'b c': {protocol: tcp, listen: 80, pool: a}}",
        "{w: {protocol: tcp, listen: 80}}",
        "[w]",
        "",
    ],
    TOP: [
        "polls: {}",
        "workers: all",
        "workers: 0",
        "admin: {}",
        "resolver: {addresses: []}",
        "resolver: {addresses: [dns.test]}",
        "resolver: {valid: 0}",
        "shutdown_timeout: soon",
        "max_connections: -1",
        "trusted_proxies: 10.0.0.0/8",
        "access_log: off",
        "access_log: {format: jsn}",
        "include: a.yaml",
        "include: [5]",
    ],
}


RIGHT = {
    SERVER: "10.0.0.2:80",
    POOL: "tls: {verify: false}",
    HTTP: "pool: a",
    TCP: "listen: 80",
    UDP: "listen: 80",
    LISTENERS: "{w: {protocol: tcp, listen: 80, pool: a}}",
    TOP: "workers: 1",
}


class WrongTests(SynchronousTestCase):
    def test_each(self) -> None:
        """What is wrong by itself is wrong for the schema as well, at the same place or at what stands around it."""
        for text, endings in WRONG.items():
            for ending in endings:
                document = tree(text.replace("@", ending))
                mistakes = {mistake.path for mistake in self.assertRaises(ConfigError, from_dict, document).mistakes}
                errors = {".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(document)}
                self.assertTrue(
                    any(mistake.startswith(error) for mistake in mistakes for error in errors),
                    f"{ending}: {mistakes} for pylb, {errors} for the schema",
                )

    def test_nothing_else_is_wrong(self) -> None:
        """What the table puts its mistakes into is right."""
        for text, ending in RIGHT.items():
            document = tree(text.replace("@", ending))
            self.assertTrue(VALIDATOR.is_valid(document) and from_dict(document), ending)


def written() -> Iterator[Any]:
    """What stands in the documentation as code, read as a value."""
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", (ROOT / page).read_text()):
            with contextlib.suppress(NotYaml):
                yield tree(code)


class EveryFieldTests(SynchronousTestCase):
    """What pylb takes, the schema takes: an editor never marks what is right."""

    def setUp(self) -> None:
        self.fields = []
        for path, form in FIELDS:
            key = path.rpartition(".")[2]
            schema = SCHEMA if path.count(".") == 0 else SCHEMA["$defs"][form.__name__]
            self.fields.append((path, reader(form, key), VALIDATOR.evolve(schema=schema["properties"][key])))

    def compare(self, value: object) -> int:
        """How many fields take a value; fails if a field does whose schema does not."""
        taken = 0
        for path, field, validator in self.fields:
            try:
                field.validate_python(value, context="/")
            except ValidationError:
                continue
            taken += 1
            self.assertTrue(validator.is_valid(value), f"{path}: {value!r}")
        return taken

    def test_what_is_written(self) -> None:
        """The words, values and examples of all pages, alone and as a list."""
        taken = sum(self.compare(value) + self.compare([value]) for value in written())
        self.assertGreater(taken, 1000)

    @given(ANYTHING | st.lists(st.text("0123456789dhmskg.:[]/-uni$_", max_size=12), max_size=2))
    def test_anything(self, value: object) -> None:
        """And whatever else."""
        self.compare(value)


class TextTests(SynchronousTestCase):
    def test_text(self) -> None:
        """It is JSON, readable, with a line break at its end."""
        self.assertEqual(SCHEMA, json.loads(as_text()))
        self.assertTrue(as_text().startswith('{\n  "$schema": ') and as_text().endswith("}\n"))
