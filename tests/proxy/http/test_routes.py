"""Which pool a request goes to."""

from twisted.trial.unittest import SynchronousTestCase

from pylb.model import Route
from pylb.proxy.http.routes import RouteTable, fold_host


def pools(routes, *requests):
    table = RouteTable(routes)
    return [table.find(host, path) for host, path in requests]


class PathTests(SynchronousTestCase):
    def find(self, routes, *paths):
        return pools(routes, *((b"any", path) for path in paths))

    def test_longest_prefix(self):
        """The longest prefix wins, in whatever order the routes are written."""
        routes = [Route(path="/", pool="all"), Route(path="/a/b", pool="ab"), Route(path="/a", pool="a")]
        self.assertEqual(self.find(routes, b"/", b"/a", b"/ab", b"/a/b/c", b"/x/a"), ["all", "a", "a", "ab", "all"])

    def test_order_of_kinds(self):
        """Exact beats regex, regex beats prefix, and the first regex that is found wins."""
        routes = [
            Route(path="/a/very/long", pool="prefix"),
            Route(regex=r"\.png$", pool="first"),
            Route(regex=r"^/a/", pool="second"),
            Route(exact="/a/x.png", pool="exact"),
        ]
        paths = b"/a/x.png", b"/a/y.png", b"/a/very/long", b"/a/x.pngs", b"/b"
        self.assertEqual(self.find(routes, *paths), ["exact", "first", "second", "second", None])

    def test_as_sent(self):
        """Paths are compared byte for byte: nothing is decoded, merged or folded."""
        routes = [Route(path="/admin", pool="admin"), Route(path="/", pool="all")]
        paths = b"/admin", b"//admin", b"/%61dmin", b"/Admin"
        self.assertEqual(self.find(routes, *paths), ["admin", "all", "all", "all"])

    def test_asterisk(self):
        """`OPTIONS *`, which asks for a server as a whole, goes where `/` goes."""
        self.assertEqual(self.find([Route(path="/a", pool="a"), Route(path="/", pool="all")], b"*"), ["all"])
        self.assertEqual(self.find([Route(exact="/", pool="root"), Route(path="/", pool="all")], b"*"), ["root"])
        self.assertEqual(self.find([Route(regex="[*]", pool="a")], b"*"), [None])


class HostTests(SynchronousTestCase):
    ROUTES = (
        Route(path="/", pool="any"),
        Route(host="*.Example.com", path="/", pool="wild"),
        Route(host="*.deep.example.com", path="/", pool="deep"),
        Route(host="www.example.com", path="/", pool="www"),
        Route(host="half.example.com", path="/a", pool="half"),
        Route(host="[::1]", path="/", pool="six"),
    )

    def find(self, *hosts):
        return pools(self.ROUTES, *((host, b"/") for host in hosts))

    def test_order(self):
        """Exactly this host, then the longest wildcard, then any."""
        hosts = b"www.example.com", b"x.y.example.com", b"a.deep.example.com", b"example.com", b"badexample.com", b""
        self.assertEqual(self.find(*hosts), ["www", "wild", "deep", "any", "any", "any"])

    def test_folded(self):
        """Case, port and a final dot make no difference."""
        self.assertEqual(self.find(b"WWW.example.COM:8080", b"www.example.com.", b"[::1]:80"), ["www", "www", "six"])
        self.assertEqual([fold_host(host) for host in (b"A.b.:1", b"[::1]", b"[::A]:1")], [b"a.b", b"[::1]", b"[::a]"])

    def test_less_particular(self):
        """Where a host's own paths do not match, the next less particular host is asked."""
        self.assertEqual(self.find(b"half.example.com"), ["wild"])

    def test_many_hosts(self):
        """The number of hosts makes no difference to how they are compared."""
        routes = [Route(host=f"H{n}.example", path="/", pool=str(n)) for n in range(300)]
        self.assertEqual(pools(routes, (b"h250.EXAMPLE", b"/"), (b"h300.example", b"/")), ["250", None])
