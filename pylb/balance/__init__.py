"""Which server?  Decisions only: no sockets, no clock, no logging; time and randomness are arguments."""
