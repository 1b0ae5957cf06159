"""The routes of the simulator's endpoints: the OpenAI API, and what vLLM has beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count

import numpy as np
from prometheus_client import CollectorRegistry

from ...config.simulator import SimulatorTargetConfig
from ...domain.endpoint import Secret
from ...domain.version import VERSION
from ..api import EngineRequest
from ..cluster import trouble_at
from ..tokens import BlockHasher, Tokens
from .answer import Vocabulary, cut_at_stop
from .clock import monotonic_ns
from .dispatch import SESSION_TOKEN, Dispatcher, refuse
from .fate import Fate, Fates
from .http import Connection, Request
from .openai import ApiError, Ask, detokenize, read_ask, tokenize
from .router_metrics import RouterMetrics
from .scrape import Scrape
from .stream import Answer, word_of
from .tokenizer import Tokenizer

METHODS = {
    **dict.fromkeys(("/health", "/version", "/metrics", "/v1/models"), ("GET", "HEAD")),
    "/ping": ("GET", "HEAD", "POST"),  # as in vLLM: SageMaker sends POST
    **dict.fromkeys(("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"), ("POST",)),
}
"""Of each path."""
SESSION_ID = "x-session-id"
"""The header that tells whose requests belong together, where no token says where they are served."""


class Service:
    """What all endpoints of a server share.

    Args:
        ready_at: monotonic ns until which it answers 503.
    """

    def __init__(
        self,
        config: SimulatorTargetConfig,
        *,
        model: str,
        max_model_len: int,
        api_key: Secret | None,
        ready_at: int,
    ) -> None:
        self.config, self.model, self.max_model_len, self.ready_at = config, model, max_model_len, ready_at
        self.bearer = None if api_key is None else f"Bearer {api_key.reveal()}".encode()
        self.tokenizer = Tokenizer()
        self.vocabulary = Vocabulary(self.tokenizer)
        self._hash = BlockHasher(config.block_size) if config.enable_prefix_caching else None
        self.numbers = count()
        self.fates = Fates(config)
        self.created = int(time.time())

    def output(self, ask: Ask, fate: Fate, number: int) -> tuple[int, str, Sequence[str] | None, str | None]:
        """Tokens of the answer, why it ends, and its texts and the stop string where one cuts it."""
        tokens, reason = ask.max_tokens, "length"
        if fate.length is not None and not ask.ignore_eos and fate.length < tokens:
            tokens, reason = max(1, fate.length, ask.min_tokens), "stop"
        if ask.stop:
            texts = self.vocabulary.texts_of(word_of(number, self.vocabulary), tokens, ask.chat)
            cut = cut_at_stop(texts, ask.stop, ask.min_tokens)
            if cut is not None:
                kept, stop = cut
                return len(kept), "stop", kept, stop
        return tokens, reason, None, None

    def request(
        self, ask: Ask, number: int, tokens: int, texts: Sequence[str] | None, session: str | None
    ) -> EngineRequest:
        """The request as an engine sees it, with the blocks that its prompt and its answer fill."""
        if self._hash is None:
            return EngineRequest(number, len(ask.prompt), tokens, session=session)
        if texts is None:
            answer = self.vocabulary.ids_of(word_of(number, self.vocabulary), tokens, ask.chat)
        else:
            answer = np.array(self.tokenizer.encode("".join(texts)), np.uint64)
        blocks = self._hash(Tokens([np.array(ask.prompt, np.uint64), answer]))
        full = len(ask.prompt) // self.config.block_size
        return EngineRequest(number, len(ask.prompt), tokens, blocks[:full], session, blocks[full:])


class Site:
    """One endpoint: the router's or a replica's.

    Args:
        dispatcher: takes the requests for tokens.
        registry: what its /metrics shows.
        router: counts the requests, where this is the router's endpoint.
    """

    def __init__(
        self,
        service: Service,
        dispatcher: Dispatcher,
        registry: CollectorRegistry,
        router: RouterMetrics | None = None,
    ) -> None:
        self._service, self._dispatcher, self._registry, self._router = service, dispatcher, registry, router

    def handle(self, connection: Connection, request: Request) -> None:
        """Answer a request, or begin to."""
        try:
            self._route(connection, request)
        except ApiError as error:
            refuse(connection, error)

    def _route(self, connection: Connection, request: Request) -> None:
        service, path = self._service, request.path
        methods = METHODS.get(path)
        if methods is None:
            connection.reply_json(404, {"detail": "Not Found"})
        elif request.method not in methods:
            headers = f"allow: {', '.join(methods)}\r\n"
            connection.reply_json(405, {"detail": "Method Not Allowed"}, headers=headers)
        elif path in ("/v1/chat/completions", "/v1/completions"):
            self._generate(connection, request, chat=path == "/v1/chat/completions")
        elif path in ("/health", "/ping"):
            self._check_ready()
            connection.reply(200, b"")
        elif path == "/metrics":
            Scrape(connection, self._registry).start()
        elif path == "/version":
            connection.reply_json(200, {"version": VERSION})
        elif path == "/v1/models":
            self._check_ready()
            self._check_key(request)
            connection.reply_json(200, self._models())
        elif path == "/tokenize":
            limit = service.max_model_len
            answer = tokenize(request.body, model=service.model, max_model_len=limit, tokenizer=service.tokenizer)
            connection.reply_json(200, answer)
        else:
            connection.reply_json(200, detokenize(request.body, model=service.model, tokenizer=service.tokenizer))

    def _check_ready(self) -> None:
        if monotonic_ns() < self._service.ready_at:
            raise ApiError(503, "the model is still loading", "ServiceUnavailableError")

    def _check_key(self, request: Request) -> None:
        bearer = self._service.bearer
        if bearer is not None and request.headers.get(b"authorization") != bearer:
            error = ApiError(401, "Unauthorized", "Unauthorized")
            error.body = {"error": "Unauthorized"}
            raise error

    def _models(self) -> dict[str, object]:
        service = self._service
        model: dict[str, object] = {
            "id": service.model,
            "object": "model",
            "created": service.created,
            "owned_by": "llm-d-benchmark",
            "root": service.config.profile,
            "parent": None,
            "max_model_len": service.max_model_len,
        }
        return {"object": "list", "data": [model]}

    def _generate(self, connection: Connection, request: Request, *, chat: bool) -> None:
        status = 500  # of an error nobody foresaw
        try:
            self._check_ready()
            self._check_key(request)
            self._submit(connection, request, chat)
            status = 200
        except ApiError as error:
            status = error.status
            raise
        finally:
            if self._router is not None:
                self._router.answered(status)

    def _submit(self, connection: Connection, request: Request, chat: bool) -> None:
        service = self._service
        self._dispatcher.catch_up(request.arrived)  # no token waits for more than one request to be read
        ask = read_ask(
            request.body, chat=chat, model=service.model, max_model_len=service.max_model_len,
            tokenizer=service.tokenizer,
        )  # fmt: skip
        number = next(service.numbers)
        fate = service.fates.next(ask.max_tokens, streaming=ask.stream)
        if fate.http_429:
            raise ApiError(429, "too many requests (failures.http_429_rate)", "TooManyRequestsError")
        if fate.http_500:
            raise ApiError(500, "internal server error (failures.http_500_rate)", "InternalServerError")
        tokens, reason, texts, stop = service.output(ask, fate, number)
        session = _text(request, SESSION_ID) or ask.session
        answer = Answer(
            connection, ask, number, arrived=request.arrived, model=service.model, vocabulary=service.vocabulary,
            output_tokens=tokens, reason=reason, texts=texts, stop=stop,
            session_token=_text(request, SESSION_TOKEN),
        )  # fmt: skip
        if (fate.stall or fate.cut) and tokens > 1:
            self._plan_trouble(answer, fate)
        if self._router is not None:
            answer.ended = self._router.ended
        self._dispatcher.submit(answer, service.request(ask, number, tokens, texts, session), answer.arrived)

    def _plan_trouble(self, answer: Answer, fate: Fate) -> None:
        answer.plain = False
        answer.trouble_at = trouble_at(answer.output_tokens)
        stall_s = self._service.config.failures.stall_time / self._service.config.speed
        answer.trouble = Answer.cut if fate.cut else lambda a: a.hold(stall_s)


def _text(request: Request, header: str) -> str | None:
    value = request.headers.get(header.encode())
    return value.decode("latin-1") if value else None
