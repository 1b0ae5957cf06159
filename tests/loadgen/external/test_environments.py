"""Environments of tools: made whole or not at all, found by path, removed; and the interpreters for them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.loadgen.external import environments
from llm_d_benchmark.loadgen.external.api import LightInstall, Requirement
from llm_d_benchmark.loadgen.external.environments import install, installed, locate, remove
from llm_d_benchmark.loadgen.external.interpreters import accepted, advice_for, find_interpreter, version_of

LINES: list[str] = []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_D_BENCHMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel(folder: Path, name: str, version: str, requires: str | None = None) -> str:
    """A real package of one module and one program, as a requirement."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"import sys\n\ndef main():\n    print('{name} {version}', sys.argv[1:])\n")
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        file.writestr(f"{info}/RECORD", "")
    return f"{name} @ {path.as_uri()}"


def test_a_tool_is_installed_in_its_light_form_found_and_removed(tmp_path: Path) -> None:
    bare = wheel(tmp_path, "tinytool", "1.5", requires="heavyweight==9")
    light = LightInstall((bare,), (wheel(tmp_path, "needed", "1.0"),), {"heavyweight/__init__.py": "X = 1\n"}, "no X")
    tool = Requirement((bare,), ">=3.11", "tinytool", light=light)
    assert locate("tiny", tool) is None
    lines: list[str] = []
    found = install("tiny", tool, light=True, progress=lines.append)
    assert found.version == "1.5 (light: no X)"
    assert any("Successfully installed" in line for line in lines)
    environment = locate("tiny", tool)
    assert environment == found.environment()
    done = subprocess.run([environment.bin / "tinytool", "x"], capture_output=True, text=True, check=True)
    assert done.stdout == "tinytool 1.5 ['x']\n"
    subprocess.run([environment.python, "-c", "import needed, heavyweight; assert heavyweight.X == 1"], check=True)
    # The same environment by its path, as a user would give one.
    by_path = locate("tiny", tool, environment.bin.parent)
    assert by_path is not None
    assert by_path.version == "1.5"
    with pytest.raises(GeneratorError, match="other is not installed in"):
        locate("other", Requirement(("other==1",), ">=3.11", "other"), environment.bin.parent)
    assert remove("tiny")
    assert not remove("tiny")
    assert locate("tiny", tool) is None
    with pytest.raises(ConfigError, match="no light form"):
        install("tiny", Requirement((bare,), ">=3.11", "tinytool"), light=True, progress=LINES.append)


def test_a_failed_installation_is_never_taken_for_whole(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter whose environments have a pip that fails, in place of a network that does."""
    python = tmp_path / "python3"
    python.write_text(
        "#!/bin/sh\n"
        'case "$2" in venv) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";; '
        '*pip) echo "no network"; exit 1;; *) echo 3.11.0;; esac\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(environments, "find_interpreter", lambda _: python)
    tool = Requirement(("tinytool==1",), ">=3.11", "tinytool")
    with pytest.raises(GeneratorError, match="installing tiny failed") as caught:
        install("tiny", tool, progress=LINES.append)
    assert "no network" in caught.value.message
    assert (cache / "environments" / "tiny" / "bin" / "python").exists()
    assert installed("tiny") is None
    assert locate("tiny", tool) is None


def test_a_checkout_is_run_from_where_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "pkg").mkdir(parents=True)
    (tree / "pkg" / "run.py").write_text("")
    git = ["git", "-c", "user.email=a@b", "-c", "user.name=n", "-C", str(tree)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    tool = Requirement((wheel(tmp_path, "needed", "1.0"),), ">=3.11", "-m pkg.run", checkout="pkg/run.py")
    with pytest.raises(ConfigError, match="give --path"):
        install("tree", tool, progress=LINES.append)
    with pytest.raises(ConfigError, match="no checkout of tree"):
        install("tree", tool, source=str(tmp_path), progress=LINES.append)
    with pytest.raises(GeneratorError, match="no environment has what tree"):
        locate("tree", tool, tree)
    found = install("tree", tool, source=tree.as_uri(), progress=LINES.append)
    assert found.checkout is not None
    assert Path(found.checkout, "pkg", "run.py").exists(), "the clone"
    assert len(found.version) >= 7, "the commit"
    environment = locate("tree", tool)
    assert environment is not None
    assert environment.checkout == Path(found.checkout)
    for mistake in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError):
            install("tree", tool, source=str(mistake), progress=LINES.append)
        assert locate("tree", tool) == environment, "a mistyped path costs no installation"
    own = environments.existing("tree", tool, tree)
    assert (own.checkout, own.python) == (str(tree), found.python), "a tree of one's own in the installed environment"
    assert remove("tree")
    assert tree.exists(), "a checkout of the user's is never removed"


def test_a_tool_that_is_never_installed_here_is_remembered_by_path(tmp_path: Path) -> None:
    tool = Requirement((), ">=3.11", "pytest", advice="pip install it")
    with pytest.raises(ConfigError, match="give --path"):
        install("own", tool, progress=LINES.append)
    found = install("own", tool, source=sys.prefix, progress=LINES.append)
    assert found.own is False
    assert locate("own", tool) == found.environment()
    assert remove("own")
    assert Path(sys.prefix, "bin", "python").exists()


def test_the_program_on_path_serves_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = locate("own", Requirement((), ">=3.11", "pytest"))
    assert found is not None
    assert found.bin == Path(sys.executable).parent


def test_a_link_on_path_leads_to_its_environment_and_a_wrapper_to_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pipx and uv put links on PATH; people put scripts there."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    tool, program = Requirement((), ">=3.11", "pytest"), tmp_path / "pytest"
    program.symlink_to(Path(sys.executable).parent / "pytest")
    found = locate("own", tool)
    assert found is not None
    assert found.bin == Path(sys.prefix, "bin").resolve()
    program.unlink()
    program.write_text("#!/bin/sh\nexec elsewhere\n")
    program.chmod(0o755)
    assert locate("own", tool) is None


def test_an_interpreter_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    tool, python = Requirement(("tinytool==1",), ">=3.11", "tinytool"), tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    with pytest.raises(GeneratorError, match="bin/python cannot be started: Permission denied"):
        locate("tiny", tool, tmp_path / "env")
    python.write_bytes(b"\x7fELF of another machine")
    python.chmod(0o755)
    with pytest.raises(GeneratorError, match="bin/python cannot be started: Exec format error"):
        locate("tiny", tool, tmp_path / "env")
    python.unlink()
    python.mkdir()
    with pytest.raises(GeneratorError, match="bin/python cannot be started"):
        locate("tiny", tool, tmp_path / "env")


def test_an_environment_is_no_checkout(tmp_path: Path) -> None:
    """Whatever is installed in it: its version would be that of another package."""
    tool = Requirement(("pytest",), ">=3.11", "-m pkg.run", advice="clone it", checkout="pkg/run.py")
    with pytest.raises(GeneratorError, match=r"no checkout of tree: it has no pkg/run\.py"):
        locate("tree", tool, Path(sys.prefix))


def test_a_checkout_on_a_machine_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "run.py").write_text("")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = locate("tree", Requirement((), ">=3.11", "-m pkg.run", checkout="pkg/run.py"), tmp_path)
    assert found is not None
    assert found.version == "checkout without git"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLM_D_BENCHMARK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        GeneratorError, match=r"file/cache \(LLM_D_BENCHMARK_CACHE\) cannot be written: Not a directory"
    ):
        install("tiny", Requirement(("tinytool==1",), ">=3.11", "tinytool"), progress=LINES.append)
    with pytest.raises(GeneratorError, match="cannot be written"):
        install("own", Requirement((), ">=3.11", "pytest"), source=sys.prefix, progress=LINES.append)
    assert not remove("tiny")
    assert locate("tiny", Requirement(("tinytool==1",), ">=3.11", "tinytool")) is None


@pytest.mark.parametrize(
    ("version", "specifier", "good"),
    [
        ((3, 12, 1), ">=3.12", True), ((3, 11, 9), ">=3.12", False), ((3, 13, 0), ">=3.11,<3.14", True),
        ((3, 14, 0), ">=3.11,<3.14", False), ((3, 12, 3), "~=3.12.1", True), ((3, 13, 0), "~=3.12.1", False),
        ((3, 12, 3), "==3.12.*", True), ((3, 12, 3), "!=3.12.3", False), ((3, 12, 0), "<=3.12", True),
    ],
)  # fmt: skip
def test_specifiers(version: tuple[int, ...], specifier: str, good: bool) -> None:
    assert accepted(version, specifier) is good


@given(st.tuples(*[st.integers(0, 20)] * 3), st.tuples(*[st.integers(0, 20)] * 2))
def test_a_bound_and_its_opposite_divide_all_versions(version: tuple[int, ...], bound: tuple[int, ...]) -> None:
    text = ".".join(map(str, bound))
    assert accepted(version, f">={text}") is not accepted(version, f"<{text}")
    assert accepted(version, f">{text}") is not accepted(version, f"<={text}")
    assert accepted(version, f"=={text}.*") is (version[:2] == bound)


def test_interpreters_are_found_or_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(name, str(tmp_path))  # or all of this machine's are started, which takes long
    assert find_interpreter(">=3.11") == Path(sys.executable)
    assert find_interpreter(">=9.0") is None
    assert "9.0" in advice_for(">=9.0")
    assert version_of(Path(sys.executable)) == sys.version_info[:3]
    assert version_of(Path("/nonexistent/python")) is None
    with pytest.raises(GeneratorError, match="needs Python >=9"):
        install("tiny", Requirement(("x==1",), ">=9.0", "x"), progress=LINES.append)


def test_an_interpreter_in_a_uv_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says it is Python 8.1, which nothing on this machine is."""
    fake = tmp_path / "uv" / "cpython-8.1.0" / "bin" / "python3"
    fake.parent.mkdir(parents=True)
    fake.write_text("#!/bin/sh\necho 8.1.0\n")
    fake.chmod(0o755)
    for name in ("PATH", "PYENV_ROOT"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    assert find_interpreter(">=8.0") == fake
