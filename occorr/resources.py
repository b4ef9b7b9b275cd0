"""Finds the data folders: inside the wheel under `_builtin/`, in an editable install beside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `parsers`, `reports` or `rules`.

    Raises:
        FileNotFoundError: the installation lacks the folder.
    """
    for base in (_PACKAGE / "_builtin", _PACKAGE, _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"occorr's folder {name!r} is missing beside {_PACKAGE}; install occorr again")
