"""Human mode: the only package that imports Rich."""

from oaibg.output.human.renderer import Human

__all__ = ["Human"]
