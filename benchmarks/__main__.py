"""``make bench``: every benchmark one after another; the exit code is 1 where a limit was not held."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from benchmarks import engine, memory, startup


def main() -> int:
    print("own time of the tool")
    startup.main()
    print("engine against a bare C client", flush=True)
    held = [engine.main()]
    print("client memory over 100,000 requests", flush=True)
    held.append(memory.main())
    if importlib.util.find_spec("benchmarks.analyze_million"):
        print("analyze a million requests", flush=True)
        held.append(importlib.import_module("benchmarks.analyze_million").main() in (None, 0, True))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
