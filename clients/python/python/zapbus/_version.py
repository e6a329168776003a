"""The version of this package, from where it is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("zapbus")
except PackageNotFoundError:  # pragma: no cover - a folder that nobody installed
    __version__ = "0+unknown"
