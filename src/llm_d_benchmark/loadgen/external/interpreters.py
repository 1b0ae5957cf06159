"""Python interpreters of this machine, for tools that do not run on ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_MINORS = range(20, 8, -1)
_ASK = "import sys, venv, ensurepip; print('.'.join(map(str, sys.version_info[:3])))"
_PART = re.compile(r"(>=|<=|==|!=|>|<|~=)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?")


def accepted(version: tuple[int, ...], specifier: str) -> bool:
    """Whether a version such as (3, 12, 1) meets a specifier such as ``>=3.11,<3.14``.

    Raises:
        ValueError: the specifier is none.
    """
    return all(_holds(version, part.strip()) for part in specifier.split(",") if part.strip())


def _holds(version: tuple[int, ...], part: str) -> bool:
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"'{part}' is no version specifier")
    operator, numbers = found[1], tuple(map(int, found[2].split(".")))
    size = max(len(numbers), len(version))
    mine, other = (v + (0,) * (size - len(v)) for v in (version, numbers))
    prefix = version[: len(numbers)] == numbers
    match operator:
        case ">=":
            return mine >= other
        case "<=":
            return mine <= other
        case ">":
            return mine > other
        case "<":
            return mine < other
        case "==":
            return prefix if found[3] else mine == other
        case "!=":
            return not (prefix if found[3] else mine == other)
        case _:
            return mine >= other and version[: len(numbers) - 1] == numbers[:-1]


def find_interpreter(specifier: str) -> Path | None:
    """An interpreter that a specifier accepts and that can make environments: ours if it does, else the oldest one of
    PATH, pyenv and uv (tools have wheels for those first); None where there is none."""
    if accepted(sys.version_info[:3], specifier):
        return Path(sys.executable)
    found = {version: path for path in reversed(list(_candidates())) if (version := version_of(path)) is not None}
    good = sorted(v for v in found if accepted(v, specifier))
    return found[good[0]] if good else None


def version_of(python: Path) -> tuple[int, ...] | None:
    """Version of an interpreter; None where it does not run or cannot make environments."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()
    return tuple(map(int, text.split("."))) if done.returncode == 0 and text else None


def _candidates() -> Iterator[Path]:
    home = Path.home()
    for minor in _MINORS:
        if (found := shutil.which(f"python3.{minor}")) is not None:
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local" / "share" / "uv" / "python")
    for root in (pyenv / "versions", uv):
        if root.is_dir():
            yield from sorted(p for p in root.glob("*/bin/python3") if p.exists())


ADVICE = "install one, e.g.:  uv python install {version}   (or: pyenv install {version}, or your system's packages)"


def advice_for(specifier: str) -> str:
    """What to do where no interpreter is there."""
    found = re.search(r"([0-9]+\.[0-9]+)", specifier)
    return ADVICE.format(version=found[1] if found else "3.12")
