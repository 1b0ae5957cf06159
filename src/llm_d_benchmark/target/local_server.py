"""The process that runs llm-d-benchmark's local model: ``python -m llm_d_benchmark.target.local_server JSON``."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


def main(argv: list[str]) -> int:
    """Serve until the process is ended.

    Args:
        argv: one JSON object: model_path, alias, host, port, slots, context, batch, ubatch, threads, cores (to pin to,
            empty for none), flash_attention, cache_type_k, cache_type_v.
    """
    options: dict[str, Any] = json.loads(argv[0])
    if options["cores"]:
        os.sched_setaffinity(0, options["cores"])  # before any thread is started: they inherit it
    import xllamacpp

    server = xllamacpp.Server(_parameters(xllamacpp, options))
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()
    return 0


def _parameters(xllamacpp: Any, options: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = options["model_path"]
    params.model_alias = {options["alias"]}
    params.hostnames = [options["host"]]
    params.port = options["port"]
    params.n_parallel = options["slots"]
    params.n_ctx = options["context"]
    params.n_batch = options["batch"]
    params.n_ubatch = options["ubatch"]
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{FLASH_ATTENTION[options['flash_attention']]}"
    )
    params.cache_type_k = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options['cache_type_k'].upper()}")
    params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options['cache_type_v'].upper()}")
    params.n_gpu_layers = 0
    params.endpoint_metrics = True
    params.ui = False
    # The host-side prompt store grows to 8 GiB by default; without it memory is bounded by the context.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # The whole context of layers with a sliding window, as memory was planned for: the prefix of a conversation can
    # then be reused without checkpoints, for which llama.cpp would compute the end of each prompt in a step of its own.
    params.swa_full = True
    params.n_ctx_checkpoints = 0
    return params


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
