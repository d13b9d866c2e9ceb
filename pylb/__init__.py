"""pylb: a load balancer for TCP, UDP and HTTP on Twisted."""

__version__ = "0.1.0"
