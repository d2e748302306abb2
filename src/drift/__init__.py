"""DRIFT: chat logs of a deployed assistant in, a better model out (arXiv 2510.02341)."""

__version__ = "0.1.0"
