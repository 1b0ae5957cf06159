"""Client memory over 100,000 requests: no slope, and under 600 MB for all client processes together."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.engine import engine
from benchmarks.rig import TOKENS, mock_server

REQUESTS, STREAMS = 100_000, 512
LIMIT_MB, LIMIT_SLOPE = 600.0, 0.05


def main(requests: int = REQUESTS) -> bool:
    """The slope is that of the second half of the run, so that filling caches does not count as a leak."""
    with mock_server(0.010, 0.0005, keep_log=False) as server, tempfile.TemporaryDirectory() as folder:
        said = engine(server, STREAMS, requests, Path(folder))
    memory = np.asarray(said["memory_mb"])
    late = memory[len(memory) // 2 :]
    growth = float(np.polyfit(np.arange(len(late)), late, 1)[0]) * len(late) / float(late.mean())
    print(
        f"{said['requests']} requests of {TOKENS} chunks in {said['seconds']:.0f} s with {said['workers']} worker(s): "
        f"memory {memory[0]:.0f} MB at first, {memory.max():.0f} MB at most (limit {LIMIT_MB:.0f}), "
        f"growth over the second half {growth:+.1%} (limit {LIMIT_SLOPE:.0%})"
    )
    return bool(memory.max() < LIMIT_MB and growth < LIMIT_SLOPE)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
