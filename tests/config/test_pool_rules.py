from __future__ import annotations

from tests.config.files import ConfigTestCase


class PoolTests(ConfigTestCase):
    def test_retries_in_one_way(self) -> None:
        text = (
            "pools: {a: {servers: [10.0.0.1:80], max_retries: 1, retry_budget: {}}}\n"
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        )
        wrong = '"retry_budget" takes the place of max_retries: leave one out'
        self.assertEqual([f"lb.yaml:1:37: pools.a.max_retries: {wrong}"], self.mistakes(text))

    def test_outliers_alone(self) -> None:
        """Failures are counted in one way."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80, {address: 10.0.0.2:80, max_fails: 2, fail_timeout: 5s}],\n"
            "  failure_window: sliding, outlier: {}}}\n"
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        )
        wrong = '"outlier" takes the place of max_fails, fail_timeout and failure_window: leave this out'
        expected = [
            f"lb.yaml:1:59: pools.a.servers.1.max_fails: {wrong}",
            f"lb.yaml:1:73: pools.a.servers.1.fail_timeout: {wrong}",
            f"lb.yaml:2:3: pools.a.failure_window: {wrong}",
        ]
        self.assertEqual(expected, self.mistakes(text))

    def test_ejection_times(self) -> None:
        """The first pause of a server that is ejected is not longer than the longest."""
        text = "pools: {a: {servers: [a:80], outlier: {%s}}}\nlisteners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        table = {
            "base_ejection_time: 1m, max_ejection_time: 59s": (83, "max", '59 s, less than "base_ejection_time", 60 s'),
            "max_ejection_time: 29": (59, "max", '29 s, less than "base_ejection_time", 30 s'),
            "base_ejection_time: 6m": (
                60,
                "base",
                '300 s by default, less than "base_ejection_time", 360 s',
            ),
        }
        for times, (column, which, wrong) in table.items():
            self.assertEqual(
                self.mistakes(text % times),
                [
                    f"lb.yaml:1:{column}: pools.a.outlier.{which}_ejection_time: "
                    f'"max_ejection_time" is {wrong}: make it longer'
                ],
            )
        for times in ("base_ejection_time: 1m, max_ejection_time: 1m", "base_ejection_time: 299s"):
            self.load(text % times)
        self.assertEqual(
            self.mistakes(text % "base_ejection_time: x, max_ejection_time: 1s"),
            [
                "lb.yaml:1:60: pools.a.outlier.base_ejection_time: "
                'must be a duration such as 500ms, 5s or 1m30s, not "x"'
            ],
        )

    def test_all_backups(self) -> None:
        """Somebody must serve before a backup can; short forms are no backups."""
        listeners = "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        text = "pools: {a: {servers: [{address: 10.0.0.1:80, backup: true}, %s]}}\n" + listeners
        self.assertEqual(
            ["lb.yaml:1:22: pools.a.servers: every server is a backup, there is none to be a backup for"],
            self.mistakes(text % "{address: 10.0.0.2:80, backup: true}"),
        )
        self.assertEqual(2, len(self.load(text % "10.0.0.2:80").pools["a"].servers))

    def test_tls_towards_a_unix_socket(self) -> None:
        """What is to be verified must have a name."""
        self.write_certificate("site", "app.example")
        text = (
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
            "pools: {a: {servers: [unix:/run/a], tls: {ca: ca.pem%s}}}\n"
        )
        self.assertEqual(
            ['lb.yaml:2:42: pools.a.tls: "server_name" is missing: a Unix socket has no name to verify'],
            self.mistakes(text % ""),
        )
        for more in [", server_name: app.example", ", verify: false"]:
            self.load(text % more)

    def test_slow_start(self) -> None:
        """Where a key or the order alone says which server it is, no share can grow."""
        text = (
            "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
            "pools:\n  a:\n    servers: [x:1, {address: y:1, slow_start: %s}]\n    balance: %s\n"
        )
        key = "key: $remote_addr"
        for balance, method, by in [
            (f"{{method: hash, {key}}}", "hash", "key"),
            (f"{{method: hash, {key}, consistent: true}}", "hash", "key"),
            (f"{{method: maglev, {key}}}", "maglev", "key"),
            ("ip_hash", "ip_hash", "address"),
            ("first", "first", "order"),
        ]:
            why = f"the {by} alone says which server it is, so no share can grow"
            problem = f'no "slow_start" with the method {method}: {why}'
            self.assertEqual(
                [f"lb.yaml:4:47: pools.a.servers.1.slow_start: {problem}"], self.mistakes(text % ("30s", balance))
            )
            self.load(text % ("0s", balance))
        for balance in ("round_robin", "least_conn", "random", "{method: least_time, metric: connect}"):
            self.load(text % ("30s", balance))

    def test_ring(self) -> None:
        """A consistent hash takes memory and time for each unit of weight; other methods do not."""
        text = (
            "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
            "pools:\n  a:\n    servers: [x:1, {address: y:1, weight: %s}]\n"
            "    balance: {method: hash, key: $remote_addr, consistent: %s}\n"
        )
        problem = "the weights come to 50,001, and 50,000 is the most for a consistent hash: divide them all"
        self.assertEqual(self.mistakes(text % (50_000, "true")), [f"lb.yaml:4:14: pools.a.servers: {problem}"])
        self.load(text % (49_999, "true"))
        self.load(text % (50_000, "false"))
