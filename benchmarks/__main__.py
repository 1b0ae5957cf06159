"""``make bench``: every benchmark one after another; the exit code is 1 where a limit was not held."""

from __future__ import annotations

import sys

from benchmarks import (
    analyze_million,
    engine,
    explore_search,
    kits,
    memory,
    parse_results,
    simulator_clocks,
    simulator_server,
    simulator_virtual,
    startup,
)


def main() -> int:
    print("own time of the tool")
    startup.main()
    print("engine against a bare C client", flush=True)
    held = [engine.main()]
    print("client memory over 100,000 requests", flush=True)
    held.append(memory.main())
    print("analyze a million requests", flush=True)
    held.append(analyze_million.main())
    print("parse results of other generators", flush=True)
    held.append(parse_results.main())
    print("an hour of simulated load in virtual time", flush=True)
    held.append(simulator_virtual.main())
    print("the simulator's two clocks against each other", flush=True)
    held.append(simulator_clocks.main())
    print("the simulator's server", flush=True)
    held.append(simulator_server.main())
    print("searches where everything is known", flush=True)
    held.append(explore_search.main())
    print("the kits' examples against the native generator", flush=True)
    kits.main()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
