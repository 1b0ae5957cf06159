"""A real small model on this machine: llm-d-benchmark's first target, with nothing else installed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..config.spelling import nearest
from ..config.target import LocalTargetConfig
from ..domain.endpoint import Endpoint
from ..domain.errors import ConfigError, TargetError
from .api import TargetContext
from .attach import attach
from .child import ChildSpec, free_port, running
from .local_model import ALIAS, cache_dir, packaged_model, require_extra

HOST = "127.0.0.1"
STOP_S = 5.0
CACHE_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
               "q4_1": 20 / 32, "q4_0": 18 / 32}  # fmt: skip
"""Bytes per value of the KV cache, by type."""
KV_VALUES = 18 * 1 * 256
"""Keys (and as many values) per token of Gemma 3 270M: layers x KV heads x head size."""
MODEL_BYTES = 253 * 10**6
BASE_BYTES = 150 * 2**20
"""Resident memory of the server's process besides the model and its KV cache, measured."""


class LocalTarget:
    """Runs llama.cpp with the packaged model in a process of its own, and leaves one core to the client."""

    type = "local"

    def __init__(self, config: LocalTargetConfig) -> None:
        self._config = config
        for key in ("cache_type_k", "cache_type_v"):
            if (value := getattr(config, key)) not in CACHE_BYTES:
                raise ConfigError(
                    f"spec.target.local.{key} '{value}' is unknown{nearest(value, CACHE_BYTES)}",
                    advice=f"allowed: {', '.join(CACHE_BYTES)}",
                )
        if config.flash_attention == "off" and config.cache_type_v.startswith("q"):
            raise ConfigError(
                f"spec.target.local.cache_type_v '{config.cache_type_v}' needs flash attention",
                advice="set flash_attention: on, or cache_type_v: f16",
            )

    def plan(self) -> Mapping[str, Any]:
        """Model, cores, and the memory in bytes that the server is expected to take."""
        config = self._config
        model = config.model_path or str(cache_dir() / f"{ALIAS}-q4_k_m.gguf")
        known: dict[str, Any] = {}
        if config.model_path is None:
            known["expected_memory_bytes"] = self.expected_memory()
        port = config.port or "(free)"
        return {"url": f"http://{HOST}:{port}", "model": self._alias(), "model_path": model, **self._knobs(), **known}

    def expected_memory(self) -> int:
        """Bytes of the packaged model, its KV cache once all of it is used, and the process: an upper bound."""
        config = self._config
        per_token = KV_VALUES * (CACHE_BYTES[config.cache_type_k] + CACHE_BYTES[config.cache_type_v])
        return int(MODEL_BYTES + config.context * per_token + BASE_BYTES)

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        """Start, and stop at the end.

        Raises:
            TargetError: the [local] extra is missing, or the server did not get ready.
        """
        return self._open(context)

    @asynccontextmanager
    async def _open(self, context: TargetContext) -> AsyncIterator[Endpoint]:
        config, knobs = self._config, self._knobs()
        path = await asyncio.to_thread(self._model)
        port = config.port or free_port(HOST)
        options = {**knobs, "model_path": str(path), "alias": self._alias(), "host": HOST, "port": port}
        spec = ChildSpec(
            command=[sys.executable, "-m", "llm_d_benchmark.target.local_server", json.dumps(options)],
            log=context.log_dir / "server.log",
            ready_timeout=config.ready_timeout,
            stop_timeout=STOP_S,
        )
        address = Endpoint(url=f"http://{HOST}:{port}", model=self._alias())
        async with running(spec, address) as endpoint:
            yield await attach(
                endpoint, {"type": self.type, "model_file": path.name, "xllamacpp": version("xllamacpp"), **knobs}
            )

    def _model(self) -> Path:
        if self._config.model_path is None:
            return packaged_model()
        require_extra(packaged_model=False)
        path = Path(self._config.model_path).expanduser().absolute()
        if not path.is_file():
            raise TargetError(f"spec.target.local.model_path: {path} is not there", advice="it names a GGUF file")
        return path

    def _alias(self) -> str:
        return ALIAS if self._config.model_path is None else Path(self._config.model_path).stem

    def _knobs(self) -> dict[str, Any]:
        config = self._config
        cores = server_cores()
        threads = config.threads or max(1, len(cores) if cores else (os.cpu_count() or 2) - 1)
        return {
            "slots": config.slots,
            "context": config.context,
            "batch": config.batch,
            "ubatch": config.ubatch,
            "threads": threads,
            "flash_attention": config.flash_attention,
            "cache_type_k": config.cache_type_k,
            "cache_type_v": config.cache_type_v,
            "cores": cores,
        }


def server_cores() -> list[int]:
    """Cores the server is kept to: all that this process may use but the first, which stays the client's.

    Empty where there is only one, or where the system cannot pin processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[1:]
