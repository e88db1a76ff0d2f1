"""Human mode. Only this folder imports Rich."""

from oaibg.output.human.renderer import Human

__all__ = ["Human"]
