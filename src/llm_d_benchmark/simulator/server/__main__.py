"""``python -m llm_d_benchmark.simulator.server JSON``: the process that ``target: simulator`` starts."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

from ...config.simulator import SimulatorTargetConfig
from ...domain.errors import BenchmarkError
from .serve import run
from .sockets import listen


def main(argv: list[str]) -> int:
    """Serve until SIGTERM.

    Args:
        argv: one JSON object: host, cores (to pin to, empty for none), config (of the simulator, with its port).
    """
    options: dict[str, Any] = json.loads(argv[0])
    if options["cores"]:
        os.sched_setaffinity(0, options["cores"])
    config = SimulatorTargetConfig.model_validate(options["config"])
    try:
        sockets = listen(options["host"], config.port, 1 + config.replicas)
        run(config, sockets, host=options["host"], say=functools.partial(print, flush=True))
    except BenchmarkError as error:
        print(f"{error.message}{f' ({error.advice})' if error.advice else ''}", file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
