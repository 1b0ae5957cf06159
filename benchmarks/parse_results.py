"""Parsing results of 100,000 requests with 64 tokens each: ``python -m benchmarks.parse_results [TOOL ...]``.

Each result is written as its tool writes it (fields and layout of tests/samples), then parsed in a fresh process. The
limit is on CPU seconds: a parser has one thread, and they do not depend on who else uses the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REQUESTS, TOKENS = 100_000, 64
SAMPLES = Path(__file__).parents[1] / "tests" / "samples"
LIMIT_S, LIMIT_MB = 10.0, 1024.0
TTFT_S, GAP_S = 0.02, 0.005
EPOCH = 1_795_509_699_906_210_136
STEP = """
import resource, sys, time
from pathlib import Path
from llm_d_benchmark.loadgen.registry import load_generator
adapter = load_generator(sys.argv[1])
began, cpu = time.perf_counter(), time.process_time()
result = adapter.parse(Path(sys.argv[2]))
count = sum(len(s.records) for s in result.stages if s.records is not None)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - began, time.process_time() - cpu, memory, count)
"""


def inference_perf(folder: Path, requests: int, tokens: int) -> None:
    def entry(i: int) -> dict[str, Any]:
        start = 6381.135608139 + i * 0.01
        times = [round(start + TTFT_S + k * GAP_S, 9) for k in range(tokens)]
        usage = {"prompt_tokens": 64, "completion_tokens": tokens, "total_tokens": 64 + tokens}
        response = {"output_tokens": tokens, "server_usage": usage, "chunk_times": times, "output_token_times": times}
        text = {"text": {"input_tokens": 64}, "image": None, "video": None, "audio": None}
        info = {"request_metrics": text, "response_metrics": response, "extra_info": {}, "labels": {}}
        return {"start_time": start, "end_time": times[-1], "info": info, "error": None}

    with (folder / "per_request_lifecycle_metrics.json").open("w") as file:
        for i in range(requests):
            lines = json.dumps(entry(i), indent=2).replace("\n", "\n  ")
            file.write(("[\n  " if i == 0 else ",\n  ") + lines)
        file.write("\n]")


def aiperf(folder: Path, requests: int, tokens: int) -> None:
    def line(i: int) -> dict[str, Any]:
        start = EPOCH + i * 10_000_000
        gaps = [GAP_S * 1e3 + 0.000123 * k for k in range(tokens - 1)]
        ttft = TTFT_S * 1e3
        values = {
            "time_to_first_token": ttft, "request_latency": ttft + sum(gaps), "inter_chunk_latency": gaps,
            "http_req_connection_overhead": 0.0, "http_req_connecting": 0.0, "http_req_sending": 0.1,
            "http_req_waiting": 21.0, "http_req_receiving": 300.0, "http_req_duration": 321.1, "http_req_total": 321.1,
        }  # fmt: skip
        metrics: dict[str, Any] = {k: {"value": v, "unit": "ms"} for k, v in values.items()}
        counted = ("usage_completion_tokens", "output_sequence_length", "usage_prompt_tokens", "input_sequence_length")
        metrics |= {k: {"value": tokens, "unit": "tokens"} for k in counted}
        metrics["http_req_connection_reused"] = {"value": 1, "unit": "ratio"}
        where = {
            "session_num": i, "x_request_id": f"{i:036x}", "x_correlation_id": f"{i:036x}", "turn_index": 0,
            "credit_issued_ns": start - 1_000_000, "request_start_ns": start, "request_end_ns": start + 10**9,
            "worker_id": f"worker_{i % 4}", "benchmark_phase": "profiling", "was_cancelled": False,
        }  # fmt: skip
        return {"metadata": where, "metrics": metrics}

    with (folder / "profile_export.jsonl").open("w") as file:
        file.writelines(json.dumps(line(i), separators=(",", ":")) + "\n" for i in range(requests))


def vllm_bench(folder: Path, requests: int, tokens: int) -> None:
    def array(values: Iterator[Any]) -> str:
        return "[" + ", ".join(map(json.dumps, values)) + "]"

    gaps = [GAP_S + 1e-9 * k for k in range(tokens - 1)]
    head = {"backend": "openai", "request_rate": "inf", "max_concurrency": 8, "completed": requests, "failed": 0}
    with (folder / "vllm-bench.json").open("w") as file:
        file.write(json.dumps({**head, "request_throughput": 8.0})[:-1])
        arrays: dict[str, Any] = {
            "input_lens": 64, "output_lens": tokens, "ttfts": TTFT_S, "itls": gaps, "errors": "",
            "generated_texts": "word " * tokens,
        }  # fmt: skip
        for name, value in arrays.items():
            file.write(f', "{name}": {array(value for _ in range(requests))}')
        file.write(f', "start_times": {array(6381.1 + i * 0.01 for i in range(requests))}}}')


def guidellm(folder: Path, requests: int, tokens: int) -> None:
    report = json.loads((SAMPLES / "guidellm" / "concurrent.json").read_text())
    (benchmark,) = report["benchmarks"]
    one = benchmark["requests"]["successful"][0]
    unused = dict.fromkeys(f"{kind}_{what}" for kind in ("image", "video", "audio", "text", "tool") for what in "abcd")
    one |= {"request_args": None, "output": None, "input_metrics": unused, "output_metrics": unused}
    timings = {k: v for k, v in one["info"]["timings"].items() if isinstance(v, float) and v > 1e9}
    head, tail = json.dumps(report).split(json.dumps(benchmark["requests"]["successful"]))
    with (folder / "benchmarks.json").open("w") as file:
        for i in range(requests):
            one["info"]["timings"] |= {k: v + i * 0.01 for k, v in timings.items()}
            one["info"]["conversation_id"] = f"{i:036x}"
            file.write((head + "[" if i == 0 else ", ") + json.dumps(one))
        file.write("]" + tail)


def fmperf(folder: Path, requests: int, tokens: int) -> None:
    """One row a token: 6.4 million rows of 100,000 requests."""
    gap = int(GAP_S * 1e9)
    response = {"index": 0, "text": "word ", "logprobs": None, "finish_reason": None, "stop_reason": None}
    head = f'{{"response": {json.dumps(response)}, "ok": true, "error": "None", '
    with (folder / "results.json").open("w") as file:
        file.write('{"results": [')
        for i in range(requests):
            start = EPOCH + i * 10_000_000
            rows = [
                f'{head}"timestamp": {start + (4 + k) * gap}, "exp_num_users": 8, "exp_duration": 3600.0, '
                f'"duration_ms": {1e3 * (GAP_S if k else TTFT_S)}, "exclude": false, "worker_idx": {i % 8}, '
                f'"request_idx": {i // 8}, "sample_idx": 4, "response_idx": {k}, "n_tokens": 1, "consistent": true}}'
                for k in range(tokens)
            ]
            file.write((", " if i else "") + ", ".join(rows))
        file.write('], "energy": {}}')


def llmeter(folder: Path, requests: int, tokens: int) -> None:
    prompt = "word " * 64
    payload = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "model": "m", "stream": True}
    one = {
        "response_text": "word " * tokens, "input_payload": payload, "id": "x", "input_prompt": prompt,
        "time_to_first_token": TTFT_S, "time_to_last_token": TTFT_S + (tokens - 1) * GAP_S, "num_tokens_input": 64,
        "num_tokens_output": tokens, "num_tokens_input_cached": None, "num_tokens_output_reasoning": None,
        "time_per_output_token": GAP_S, "error": None, "retries": None, "annotations": {},
    }  # fmt: skip
    with (folder / "responses.jsonl").open("w") as file:
        for i in range(requests):
            moment = datetime.fromtimestamp(EPOCH / 1e9 + i * 0.01, UTC).isoformat()
            file.write(json.dumps({**one, "request_time": moment}) + "\n")


TOOLS: dict[str, Callable[[Path, int, int], None]] = {
    "inference-perf": inference_perf,
    "aiperf": aiperf,
    "vllm-bench": vllm_bench,
    "guidellm": guidellm,
    "fmperf": fmperf,
    "llmeter": llmeter,
}


def main(tools: Sequence[str] = ()) -> bool:
    """Measure these parsers (default: every one) and print what they took; whether all keep the limits."""
    held = True
    for name in tools or TOOLS:
        with tempfile.TemporaryDirectory() as folder:
            TOOLS[name](Path(folder), REQUESTS, TOKENS)
            size = sum(p.stat().st_size for p in Path(folder).iterdir()) / 2**20
            command = [sys.executable, "-c", STEP, name, folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, cpu, memory, count = map(float, done.stdout.split())
        assert count == REQUESTS, (name, count)
        held = held and cpu < LIMIT_S and memory < LIMIT_MB
        print(
            f"{name:16} {size:5.0f} MiB  {seconds:5.1f} s, {cpu:5.1f} CPU s (limit {LIMIT_S:g}), "
            f"{memory:5.0f} MB (limit {LIMIT_MB:g})",
            flush=True,
        )
    return held


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
