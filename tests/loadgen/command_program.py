"""A generator that speaks the protocol and sends nothing: it makes rows up, and misbehaves as its argument says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

MODE = sys.argv[1]
PROTOCOL = "llm-d-benchmark.loadgen/1"
ALL = ["chat", "completions", "open_loop", "closed_loop", "streaming", "non_streaming"]


def say(kind: str, **fields: Any) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rows_of(sessions: list[dict[str, Any]], change: dict[str, Any]) -> list[dict[str, Any]]:
    now = time.time_ns()
    made = []
    for session in sessions:
        row = {
            "request_id": session["request_id"], "status": "ok", "sent": now, "end": now + 2_000_000,
            "first_token": now + 1_000_000, "last_token": now + 2_000_000, "chunk_times": [1000, 2000],
            "output_tokens": 2, "output_source": "usage",
        }  # fmt: skip
        made.append({k: v for k, v in {**row, **change}.items() if v is not None})
    time.sleep(0.005)
    return made


def on_start(stage: int, sessions: list[dict[str, Any]], config: dict[str, Any]) -> None:
    while MODE == "idle_in_stage":
        say("progress")
        time.sleep(0.2)
    at = int(time.time()) if MODE == "sent_in_seconds" else time.time_ns()
    say("sent", requests=[s["request_id"] for s in sessions], times=[at] * len(sessions))
    if MODE == "dies_in_a_turn":  # of every session the first two turns are under way, and one is done
        say("sent", requests=[s["request_id"] + 1 for s in sessions], times=[at] * len(sessions))
        failed = {"status": "failed", "error_class": "connect", "first_token": None, "last_token": None}
        say("records", rows=rows_of(sessions[:1], {**failed, "chunk_times": [], "sent": at}))
    if MODE in ("dies_in_stage", "dies_in_a_turn", "sent_in_seconds"):
        log("boom: out of file handles")
        os._exit(4)
    if MODE == "killed_in_stage":
        os.kill(os.getpid(), signal.SIGKILL)
    if MODE == "silent_in_stage":
        time.sleep(600)
    if MODE == "malformed_in_stage":
        print('{"type": "records", "rows": [{]}', flush=True)
    if MODE == "fatal_in_stage":
        say("error", message="the disk is full", advice="make room")
    if MODE == "note_in_stage":
        say("error", message="TCP_NODELAY could not be set", fatal=False)
    if MODE == "ignores_stop":
        log(f"grandchild {subprocess.Popen(['sleep', '600']).pid}")
        while True:
            say("progress", chunks=0, lag=None)
            time.sleep(0.2)
    rows = rows_of(sessions, config.get("row", {}))
    say("records", rows=rows[: config.get("rows", len(rows))])
    if config.get("twice"):
        say("records", rows=rows)
    say("progress", chunks=2 * len(rows), lag={"p50_us": 10, "p99_us": 20, "max_us": 3000, "ticks": 90})
    end = int(time.time()) if MODE == "ends_in_seconds" else time.time_ns()
    say("stage_end", stage=stage, load_end=end, end=end, reason="exhausted")


def main() -> None:
    if MODE == "ignores_stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stage, sessions, config = 0, [], {}
    for line in sys.stdin:
        message = json.loads(line)
        match message["type"]:
            case "hello":
                config = message["config"]
                if MODE == "dies_at_start":
                    log("cannot load libfoo.so")
                    sys.exit(3)
                if MODE == "silent":
                    time.sleep(600)
                if MODE == "chatty":
                    print("Welcome to my load generator!", flush=True)
                if MODE == "leaks":
                    log("headers: " + os.environ[message["endpoint"]["headers_env"]])
                protocol = "llm-d-benchmark.loadgen/9" if MODE == "newer" else PROTOCOL
                say("ready", protocol=protocol, name="fake", version="1", capabilities=config.get("can", ALL), cores=2)
            case "stage":
                stage, sessions = message["stage"], []
                if MODE == "ends_at_once":
                    say("stage_end", stage=stage, load_end=time.time_ns(), end=time.time_ns(), reason="exhausted")
                say("credit", stage=stage, sessions=config.get("credit", 100))
                if MODE != "never_ready":
                    say("stage_ready", stage=stage)
            case "schedule":
                sessions += message["sessions"]
            case "start":
                time.sleep(max(0.0, (message["at"] - time.time_ns()) / 1e9) + config.get("late_s", 0.0))
                on_start(stage, sessions, config)
            case "quit":
                if MODE == "dies_at_the_end":
                    log("double free")
                    os._exit(9)
                say("done")
                return


if __name__ == "__main__":
    main()
