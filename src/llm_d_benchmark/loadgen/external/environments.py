"""Where tools are installed: one environment each in a cache folder, or one that the user has already.

<cache>/environments/NAME/           a virtual environment
<cache>/environments/NAME/tool.json  what is in it; written last, so that a half-made one is never taken for whole
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...domain.errors import ConfigError, GeneratorError
from .api import Environment, Requirement
from .files import disk
from .interpreters import advice_for, find_interpreter, version_of

CACHE_VARIABLE = "LLM_D_BENCHMARK_CACHE"
_MARKER = "tool.json"
_ASK_VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installed:
    """What ``tool.json`` says of an environment."""

    name: str
    version: str
    python: str
    packages: tuple[str, ...]
    light: bool = False
    checkout: str | None = None
    own: bool = True
    """Whether the environment is in the cache, and not the user's."""

    def environment(self) -> Environment:
        python = Path(self.python)
        checkout = None if self.checkout is None else Path(self.checkout)
        return Environment(python, python.parent, self.version, checkout, self.light)


def cache_dir() -> Path:
    """The tool's cache: LLM_D_BENCHMARK_CACHE, else the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llm-d-benchmark"


def folder_of(name: str) -> Path:
    return cache_dir() / "environments" / name


def installed(name: str) -> Installed | None:
    """What is installed under this name; None where nothing is, or not wholly."""
    try:
        data: dict[str, Any] = json.loads((folder_of(name) / _MARKER).read_text())
        found = Installed(**{**data, "packages": tuple(data["packages"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    there = Path(found.python).exists() and (found.checkout is None or Path(found.checkout).is_dir())
    return found if there else None


def locate(name: str, requirement: Requirement, path: Path | None = None) -> Environment | None:
    """The environment to run a tool in: that of ``path``, the installed one, or for a tool that is never installed here
    the one on PATH; None where there is none.

    Raises:
        GeneratorError: ``path`` is given and the tool is not there.
    """
    if path is not None:
        return existing(name, requirement, path.expanduser()).environment()
    found = installed(name)
    if found is not None:
        return found.environment()
    program = shutil.which(requirement.executable) if not requirement.packages else None
    if program is None:
        return None
    with suppress(GeneratorError):  # a script of one's own that starts the program elsewhere
        return existing(name, requirement, Path(program).resolve().parent.parent).environment()
    return None


def not_there(name: str, requirement: Requirement) -> GeneratorError:
    """The error of a tool that is not installed."""
    command = f"llm-d-benchmark generators install {name}" + (" --path CHECKOUT" if requirement.checkout else "")
    first = command if requirement.packages else f"{command} --path ENVIRONMENT"
    advice = f"{first}\n{requirement.advice}" if requirement.advice else first
    return GeneratorError(f"load generator '{name}' is not installed", advice=advice)


def existing(name: str, requirement: Requirement, path: Path) -> Installed:
    """An environment that its user made, as it is; nothing is written.

    Raises:
        GeneratorError: the tool is not there.
    """
    if requirement.checkout is not None:
        if problem := _no_tree(name, requirement, path):
            raise GeneratorError(problem, advice=requirement.advice)
        return _from_checkout(name, requirement, path)
    python = next((p for p in (path / "bin" / "python", path / "bin" / "python3") if p.exists()), None)
    if python is None:
        raise GeneratorError(
            f"{path} is no Python environment with {name}",
            advice="give the folder of a virtual environment (the one with bin/python), or install: "
            f"llm-d-benchmark generators install {name}",
        )
    version = _version(python, distribution(requirement))
    if version is None:
        raise GeneratorError(
            f"{name} is not installed in {path}",
            advice=f"{python} -m pip install {' '.join(requirement.packages) or distribution(requirement)}",
        )
    return Installed(name, version, str(python), (), own=False)


def _from_checkout(name: str, requirement: Requirement, tree: Path) -> Installed:
    """A source tree with the environment beside it, else the one that is installed."""
    beside = [tree / folder / "bin" / "python" for folder in (".venv", "venv", "env")]
    there = installed(name)
    own = [Path(there.python)] if there is not None else []
    python = next((p for p in (*beside, *own) if p.exists()), None)
    if python is None:
        raise GeneratorError(
            f"no environment has what {name} in {tree} needs",
            advice=f"llm-d-benchmark generators install {name} --path {tree}",
        )
    return Installed(name, _commit(tree), str(python), (), checkout=str(tree), own=False)


def distribution(requirement: Requirement) -> str:
    """Name of the package that is the tool."""
    first = requirement.packages[0] if requirement.packages else requirement.executable
    return re.split(r"[\s<>=!~\[;]", first, maxsplit=1)[0]


def _version(python: Path, package: str) -> str | None:
    """Version of a package in an environment; None where it is not there.

    Raises:
        GeneratorError: its interpreter cannot be started.
    """
    try:
        done = subprocess.run([python, "-c", _ASK_VERSION, package], capture_output=True, text=True, check=False)
    except OSError as error:
        raise GeneratorError(
            f"{python} cannot be started: {error.strerror or error}",
            advice="it has to be the Python of an environment that was made on this machine",
        ) from None
    return done.stdout.strip() if done.returncode == 0 else None


def install(
    name: str, requirement: Requirement, *, light: bool = False, source: str | None = None, progress: Progress
) -> Installed:
    """Make the environment of a tool, in place of one that is there; that one stays where ``source`` is a mistake.

    Args:
        light: the tool's light form, where it has one.
        source: of a tool without packages: a checkout or git URL; else an environment that has the tool already.
        progress: told each line of what goes on.

    Raises:
        ConfigError: the tool has no such form, needs a ``source``, or ``source`` is not of this tool.
        GeneratorError: no interpreter, the cache cannot be written, or the installation failed.
    """
    if light and requirement.light is None:
        raise ConfigError(f"{name} has no light form", advice=f"llm-d-benchmark generators install {name}")
    if source is None and (requirement.checkout or not requirement.packages):
        raise ConfigError(
            f"{name} is on no package registry; give --path: a checkout or a git URL"
            if requirement.checkout
            else f"{name} is not installed by this tool; give --path: an environment that has it",
            advice=requirement.advice,
        )
    if source is not None and not requirement.checkout:
        found = existing(name, requirement, Path(source).expanduser().absolute())
        with _cache():
            _remember(found)
        return found
    if source is not None and not _is_url(source):
        _check_tree(name, requirement, _tree(source))
    with _cache():
        return _make(name, requirement, light, source, progress)


def _make(name: str, requirement: Requirement, light: bool, source: str | None, progress: Progress) -> Installed:
    base = find_interpreter(requirement.python)
    if base is None:
        raise GeneratorError(
            f"{name} needs Python {requirement.python}, and there is none on PATH, in pyenv or in uv",
            advice=advice_for(requirement.python),
        )
    remove(name)
    folder = folder_of(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress(f"making an environment with Python {'.'.join(map(str, version_of(base) or ()))} in {folder}")
    _step([str(base), "-m", "venv", str(folder)], progress, name)
    python = folder / "bin" / "python"
    checkout = None if source is None else _checkout(requirement, source, folder, progress, name)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    form = requirement.light if light else None
    _step([*pip, *(form.packages if form is not None else requirement.packages)], progress, name)
    if form is not None:
        _step([*pip, "--no-deps", *form.bare], progress, name)
        _stand_in(python, form.files)
    version = _commit(checkout) if checkout is not None else _version(python, distribution(requirement))
    if version is None:
        raise GeneratorError(f"{name} was installed, but is not in {folder}", advice="look at what pip said above")
    if form is not None:
        version = f"{version} (light: {form.note})"
    found = Installed(
        name, version, str(python), requirement.packages, light, None if checkout is None else str(checkout)
    )
    _remember(found)
    return found


def _remember(found: Installed) -> None:
    """Write the marker that makes an environment whole; all at once."""
    folder = folder_of(found.name)
    if not found.own:
        remove(found.name)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_MARKER}.new"
    draft.write_text(json.dumps(asdict(found), indent=2))
    draft.replace(folder / _MARKER)


def remove(name: str) -> bool:
    """Remove a tool's environment, never one of its user's own; whether there was any."""
    folder = folder_of(name)
    if not folder.exists():
        return False
    with _cache():
        (folder / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(folder)
    return True


def _cache() -> AbstractContextManager[None]:
    """Raises GeneratorError where the cache cannot be written."""
    return disk(f"the cache {cache_dir()} ({CACHE_VARIABLE}) cannot be written")


def _step(command: list[str], progress: Progress, name: str) -> None:
    """Run one command of an installation.

    Raises:
        GeneratorError: it failed, with the end of what it said.
    """
    lines: list[str] = []
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                progress(line.rstrip())
    except OSError as error:
        raise GeneratorError(f"{command[0]} cannot be started: {error.strerror or error}") from None
    if process.returncode:
        tail = "\n".join(f"    {line}" for line in lines[-12:])
        raise GeneratorError(
            f"installing {name} failed: {' '.join(command[:4])} ... ended with exit code {process.returncode}\n{tail}",
            advice="check the network and the package index (pip config list); nothing half-made is used",
        )


def _checkout(requirement: Requirement, source: str, folder: Path, progress: Progress, name: str) -> Path:
    """The source tree: one that is there, or a clone of a URL."""
    tree = _tree(source)
    if _is_url(source):
        tree = folder / "checkout"
        _step(["git", "clone", "--depth", "1", source, str(tree)], progress, name)
        _check_tree(name, requirement, tree)
    return tree


def _tree(source: str) -> Path:
    return Path(source).expanduser().absolute()


def _is_url(source: str) -> bool:
    return not _tree(source).is_dir() and ("://" in source or source.startswith("git@"))


def _check_tree(name: str, requirement: Requirement, tree: Path) -> None:
    """Raises ConfigError where this is no source tree of the tool."""
    if not tree.is_dir():
        raise ConfigError(f"{tree} is neither a folder nor a git URL", advice=requirement.advice)
    if problem := _no_tree(name, requirement, tree):
        raise ConfigError(problem, advice=requirement.advice)


def _no_tree(name: str, requirement: Requirement, tree: Path) -> str | None:
    """Why this is no source tree of the tool; None where it is one."""
    assert requirement.checkout is not None
    there = (tree / requirement.checkout).exists()
    return None if there else f"{tree} is no checkout of {name}: it has no {requirement.checkout}"


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--tags"]
    with suppress(OSError):  # no git on this machine
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "checkout without git"


def _stand_in(python: Path, files: Any) -> None:
    """Write small modules in place of a package that is not installed."""
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    root = Path(where.stdout.strip())
    for name, text in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
