"""pylb's own answers."""

import h11
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.pages import page


def read(data, method="GET"):
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.receive_data(data)
    head = client.next_event()
    body = client.next_event()
    return head.status_code, dict(head.headers), bytes(getattr(body, "data", b""))


class PageTests(SynchronousTestCase):
    def test_whole(self):
        """A status, a date and one line of text."""
        status, headers, body = read(page(502, close=False))
        self.assertEqual((status, body), (502, b"502 Bad Gateway\n"))
        self.assertEqual(headers[b"content-length"], b"16")
        self.assertIn(b"GMT", headers[b"date"])
        self.assertNotIn(b"connection", headers)

    def test_close(self):
        """The client is told when the connection ends."""
        self.assertEqual(read(page(400, close=True))[1][b"connection"], b"close")

    def test_head(self):
        """An answer to HEAD has the length but not the body."""
        status, headers, body = read(page(404, close=False, method=b"HEAD"), "HEAD")
        self.assertEqual((status, headers[b"content-length"], body), (404, b"14", b""))
        self.assertTrue(page(404, close=False, method=b"HEAD").endswith(b"\r\n\r\n"))

    def test_allow(self):
        """405 says what is allowed."""
        self.assertIn(b"GET", read(page(405, close=True))[1][b"allow"])
