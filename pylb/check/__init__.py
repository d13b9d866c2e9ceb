"""Active health checks: is a server able to serve, before a client finds out?"""

from pylb.check.interface import IHealthCheck, Report, Unhealthy

__all__ = ["IHealthCheck", "Report", "Unhealthy"]
