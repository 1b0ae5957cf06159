"""Build hook: compiles the native load generator's receiver, where there is a C compiler. Everything works without it.

``python hatch_build.py`` does the same in place, for work on the C sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    BuildHookInterface = object

FOLDER = "src/llm_d_benchmark/loadgen/native/compiled"
FLAGS = ("-O2", "-Wall", "-shared", "-fPIC", "-pthread")


def compile_to(library: Path, folder: Path, *flags: str) -> bool:
    """Compile the C sources of a folder; False, with the reason on stderr, where that is not possible."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if sys.platform != "linux" or compiler is None:
        print("the compiled receiver was left out: it takes Linux and a C compiler", file=sys.stderr)
        return False
    sources = sorted(folder.glob("*.[ch]"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    fresh = library.with_suffix(f".{os.getpid()}")  # a process that has the old one loaded keeps it
    command = [compiler, *FLAGS, *flags, f'-DSOURCE="{digest}"', "-o", str(fresh)]
    try:
        subprocess.run([*command, *(str(s) for s in sources if s.suffix == ".c")], check=True, timeout=120)
        fresh.replace(library)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the compiled receiver was left out: {error}", file=sys.stderr)
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            library.unlink(missing_ok=True)
        return False
    return True


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg,valid-type]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / FOLDER
        if compile_to(folder / "_receiver.so", folder):
            build_data["artifacts"].append(f"{FOLDER}/_receiver.so")
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    here = Path(__file__).parent / FOLDER
    sys.exit(not compile_to(here / "_receiver.so", here))
