"""``make bench``: every benchmark one after another; the exit code is 1 where a limit was not held."""

from __future__ import annotations

import sys

from benchmarks import analyze_million, engine, memory, startup


def main() -> int:
    print("own time of the tool")
    startup.main()
    print("engine against a bare C client", flush=True)
    held = [engine.main()]
    print("client memory over 100,000 requests", flush=True)
    held.append(memory.main())
    print("analyze a million requests", flush=True)
    held.append(analyze_million.main())
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
