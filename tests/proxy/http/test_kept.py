"""What was made of bytes that come again."""

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.kept import MOST, MOST_BYTES, Kept


class KeptTests(SynchronousTestCase):
    def test_same_bytes(self):
        """The same bytes have what was made of them, whoever brings them; no others do."""
        kept = Kept()
        made = kept.keep(b"abc", object())
        self.assertIs(kept.get(bytes(bytearray(b"abc"))), made)
        self.assertIsNone(kept.get(b"ABC"))

    def test_bounded(self):
        """However many come, and however long they are, few and short ones are kept."""
        kept = Kept()
        for n in range(3 * MOST):
            kept.keep(b"%d" % n, n)
            self.assertEqual(kept.get(b"%d" % n), n)
            self.assertLessEqual(len(kept), MOST)
        self.assertEqual((kept.keep(bytes(MOST_BYTES + 1), 7), kept.get(bytes(MOST_BYTES + 1))), (7, None))
