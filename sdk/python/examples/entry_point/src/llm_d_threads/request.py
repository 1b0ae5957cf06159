"""One streamed chat request in a thread, as a record."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from llm_d_benchmark.domain.records import ErrorClass
from llm_d_benchmark.domain.schedule import Session, Stage
from llm_d_benchmark.loadgen.api import LoadJob


class Failed(Exception):  # noqa: N818 - an outcome
    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class Request:
    """``send`` runs in a thread; ``cancel`` may be called from another."""

    def __init__(self, job: LoadJob, stage: Stage, session: Session, ready: int, scheduled: int | None) -> None:
        self._job, self._session = job, session
        turn = session.turns[0]
        self._row: dict[str, Any] = {
            "request_id": session.first_request_id, "stage": stage.index, "shard": job.shard.index, "worker": 0,
            "model": session.model, "session": session.session_id, "turn": 0, "scheduled": scheduled, "ready": ready,
            "input_asked": turn.input_asked, "output_asked": turn.output_asked, "streaming": True, "attempts": 1,
            "status": "ok", "chunk_times": [], "output_tokens": None, "error_class": None,
        }  # fmt: skip
        self._chunks: list[int] = []
        self._cancelled = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def cancel(self) -> None:
        self._cancelled.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it

    def _now(self) -> int:
        return time.monotonic_ns() + self._job.clock_offset

    def send(self) -> dict[str, Any]:
        """The record of this request."""
        row = self._row
        row["sent"] = self._now()
        try:
            self._exchange()
        except Failed as failure:
            row |= {"status": "failed", "error_class": str(failure.error_class), "error": str(failure)}
        except TimeoutError:
            row |= {"status": "failed", "error_class": str(ErrorClass.TIMEOUT_FIRST_TOKEN), "error": "no bytes in time"}
        except (OSError, http.client.HTTPException) as error:
            kind = ErrorClass.TRUNCATED if row.get("http_status") else ErrorClass.CONNECT
            row |= {"status": "failed", "error_class": str(kind), "error": type(error).__name__}
        finally:
            if self._connection is not None:
                self._connection.close()
        if self._cancelled.is_set():
            row |= {"status": "cancelled", "error_class": None, "error": None}
        return self._finished()

    def _finished(self) -> dict[str, Any]:
        row, chunks = self._row, self._chunks
        row["end"] = self._now()
        if chunks:
            row |= {"first_token": chunks[0], "last_token": chunks[-1]}
            row["chunk_times"] = [(at - row["sent"]) // 1000 for at in chunks]
        if row["output_tokens"] is None and chunks and row["status"] == "ok":
            row |= {"output_tokens": len(chunks), "output_source": "chunks"}
        return row

    def _exchange(self) -> None:
        endpoint, limits, row = self._job.endpoint, self._job.config.timeouts, self._row
        began = self._now()
        self._connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=limits.connect)
        self._connection.connect()
        row["connect"] = self._now() - began
        row["ready"] += row["connect"]  # the network's time, not the client's own delay
        self._connection.sock.settimeout(min(limits.first_token, limits.total))
        headers = {"Content-Type": "application/json", **endpoint.all_headers()}
        row["sent"] = self._now()
        self._connection.request("POST", urlsplit(endpoint.url).path + "/v1/chat/completions", self._body(), headers)
        response = self._connection.getresponse()
        row["http_status"] = response.status
        if response.status != 200:
            raise Failed(_class_of(response.status), f"HTTP {response.status}")
        self._read(response, row["sent"] + int(limits.total * 1e9))

    def _body(self) -> bytes:
        turn = self._session.turns[0]
        prompt = [{"role": "user", "content": turn.prompt}] if isinstance(turn.prompt, str) else list(turn.prompt)
        fields: dict[str, Any] = {"model": self._session.model, "messages": prompt}
        if turn.output_asked is not None:
            fields["max_tokens"] = turn.output_asked
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps({**fields, **self._job.config.parameters, **turn.params}).encode()

    def _read(self, response: http.client.HTTPResponse, deadline: int) -> None:
        row, whole = self._row, False
        while line := response.readline():
            at = self._now()
            if at > deadline:
                raise Failed(ErrorClass.TIMEOUT_TOTAL, "no end in time")
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                whole = True
                continue
            try:
                event = json.loads(data)
            except ValueError:
                raise Failed(ErrorClass.PROTOCOL, "an event is not JSON") from None
            if event.get("error"):
                raise Failed(ErrorClass.SERVER_ERROR_EVENT, "error event")
            self._event(event, at)
        if not whole and not row.get("finish_reason"):
            raise Failed(ErrorClass.TRUNCATED, "the stream ended early")
        if not self._chunks:
            raise Failed(ErrorClass.NO_CONTENT, "the stream carried no content")

    def _event(self, event: dict[str, Any], at: int) -> None:
        row = self._row
        if usage := event.get("usage"):
            row |= {"input_tokens": usage.get("prompt_tokens"), "input_source": "usage"}
            row |= {"output_tokens": usage.get("completion_tokens"), "output_source": "usage"}
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            if delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"):
                self._chunks.append(at)
            row["finish_reason"] = choice.get("finish_reason") or row.get("finish_reason")


def _class_of(status: int) -> ErrorClass:
    if status == 429:
        return ErrorClass.HTTP_429
    if 300 <= status < 400:
        return ErrorClass.REDIRECT
    return ErrorClass.HTTP_5XX if status >= 500 else ErrorClass.HTTP_4XX
