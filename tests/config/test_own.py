"""pylb.config.own: modules in the folder of the configuration, each test's with a name of its own."""

from __future__ import annotations

import itertools
import sys

from pylb.config import ConfigError, from_dict
from pylb.model import Balance
from tests.config.files import ConfigTestCase

RIGHT = "class Mine:\n    def __init__(self, servers): ...\n    add = remove = choose = __init__\n"
NUMBERS = itertools.count()


class Taken:
    """A method that a dictionary holds itself."""

    def add(self) -> None: ...

    remove = choose = add


class OwnTestCase(ConfigTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.module = f"own_method_{next(NUMBERS)}"
        self.addCleanup(self.forget)

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == self.module]:
            del sys.modules[name]

    def config(self, balance: str) -> str:
        return (
            "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
            f"pools:\n  a:\n    servers: [10.0.0.1:80]\n    balance: {balance}\n"
        )

    def balance(self, balance: str) -> Balance:
        return self.load(self.config(balance)).pools["a"].balance


class FoundTests(OwnTestCase):
    def test_both_forms(self) -> None:
        """The name alone or in a mapping: the same class, and the name is kept."""
        self.write(f"{self.module}.py", RIGHT)
        name = f"{self.module}:Mine"
        first, second = self.balance(name), self.balance(f"{{method: {name}}}")
        self.assertEqual((first.method, first.own), (name, sys.modules[self.module].Mine))
        self.assertEqual(first, second)

    def test_in_a_package(self) -> None:
        """A module may be within packages."""
        self.write(f"{self.module}/__init__.py", "")
        self.write(f"{self.module}/inner.py", RIGHT)
        self.assertEqual(self.balance(f"{self.module}.inner:Mine").method, f"{self.module}.inner:Mine")

    def test_included(self) -> None:
        """It is looked for beside the file that names it."""
        self.write(f"deep/{self.module}.py", RIGHT)
        self.write("deep/pool.yaml", f"pools: {{b: {{servers: [x:1], balance: {self.module}:Mine}}}}\n")
        config = self.load(self.config("round_robin") + "include: [deep/*.yaml]\n")
        self.assertIs(config.pools["b"].balance.own, sys.modules[self.module].Mine)

    def test_where_python_looks_first(self) -> None:
        """What Python finds elsewhere wins, and the search path is left as it was."""
        self.write(f"elsewhere/{self.module}.py", RIGHT)
        self.write(f"{self.module}.py", "1 / 0")
        path = [str(self.folder / "elsewhere"), *sys.path]
        self.patch(sys, "path", list(path))
        self.balance(f"{self.module}:Mine")
        self.assertEqual(sys.path, path)

    def test_already_on_the_path(self) -> None:
        """Where the folder is on the search path already it stays there."""
        self.write(f"{self.module}.py", RIGHT)
        path = [str(self.folder), *sys.path]
        self.patch(sys, "path", list(path))
        self.balance(f"{self.module}:Mine")
        self.assertEqual(sys.path, path)

    def test_the_class_itself(self) -> None:
        """From Python it may stand there itself."""
        for balance in (Taken, {"method": Taken}):
            config = from_dict(
                {
                    "pools": {"a": {"servers": ["10.0.0.1:80"], "balance": balance}},
                    "listeners": {"w": {"protocol": "tcp", "listen": 8080, "pool": "a"}},
                }
            )
            self.assertEqual(config.pools["a"].balance, Balance(method=f"{__name__}:Taken", own=Taken))


class MistakeTests(OwnTestCase):
    def refuses(self, balance: str, message: str, column: int = 14) -> None:
        said = self.mistakes(self.config(balance))
        self.assertEqual(
            [line.replace(str(self.folder), "FOLDER") for line in said], [f"lb.yaml:5:{column}: {message}"]
        )

    def test_no_module(self) -> None:
        """It is said where it was looked for."""
        self.refuses(
            f"{self.module}:Mine",
            f'pools.a.balance: no module "{self.module}", neither in Python\'s sys.path nor in FOLDER',
        )
        self.refuses(
            "{method: json.nothing:Mine}",
            'pools.a.balance.method: no module "json.nothing", neither in Python\'s sys.path nor in FOLDER',
            column=23,
        )

    def test_broken_modules(self) -> None:
        """What goes wrong in a module is said, and is not mistaken for its absence; the search path is left as it was."""
        path = list(sys.path)
        for number, (text, problem) in enumerate(
            [
                ("1 / 0", "ZeroDivisionError: division by zero"),
                ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
                ("raise SystemExit(3)", "SystemExit: 3"),
                ("def", f"SyntaxError: invalid syntax ({self.module}_3.py, line 1)"),
                ("raise ValueError('two\\nlines')", "ValueError: two lines"),
            ]
        ):
            name = f"{self.module}_{number}"
            self.write(f"{name}.py", text)
            self.refuses(f"{name}:Mine", f'pools.a.balance: the module "{name}" cannot be imported: {problem}')
        self.assertEqual(sys.path, path)

    def test_no_such_name(self) -> None:
        """A name that the module lacks, and what was probably meant."""
        self.write(f"{self.module}.py", RIGHT)
        self.refuses(
            f"{self.module}:Mien",
            f'pools.a.balance: the module "{self.module}" has no "Mien", did you mean "Mine"?',
        )

    def test_not_a_method(self) -> None:
        """A function, an object, a class that lacks something."""
        self.write(
            f"{self.module}.py",
            "def choose(): ...\nthing = 3\nclass Half:\n    def add(self): ...\n    remove = 5\nclass Other(Half):\n"
            "    remove = Half.add\n",
        )
        for name, problem in [
            ("choose", "is no class, and a balancing method is one"),
            ("Half", "is no balancing method, it lacks remove and choose"),
            ("Other", "is no balancing method, it lacks choose"),
        ]:
            self.refuses(f"{self.module}:{name}", f'pools.a.balance: "{name}" {problem}')
        self.refuses(f"{self.module}:thing", 'pools.a.balance: "3" is no class, and a balancing method is one')

    def test_form(self) -> None:
        """A module and a class, nothing else."""
        for name in ("mine:", ":Mine", "a:b:c", "../mine:Mine", "mine:Mine()"):
            self.refuses(f'"{name}"', f'pools.a.balance: "{name}" is not of the form module:Class')

    def test_no_keys(self) -> None:
        """It has no keys of other methods."""
        self.write(f"{self.module}.py", RIGHT)
        self.refuses(
            f"{{method: {self.module}:Mine, key: $remote_addr}}",
            f'pools.a.balance: "key" belongs to the method hash or maglev, not to {self.module}:Mine',
        )

    def test_class_from_python(self) -> None:
        """A class that is none is refused in a dictionary, too."""
        error = self.assertRaises(
            ConfigError,
            from_dict,
            {
                "pools": {"a": {"servers": ["10.0.0.1:80"], "balance": int}},
                "listeners": {"w": {"protocol": "tcp", "listen": 8080, "pool": "a"}},
            },
        )
        problem = '"int" is no balancing method, it lacks add and remove and choose'
        self.assertEqual(str(error), f"dict: pools.a.balance: {problem}")
