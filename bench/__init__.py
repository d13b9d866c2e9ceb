"""What pylb costs; see README.md."""
