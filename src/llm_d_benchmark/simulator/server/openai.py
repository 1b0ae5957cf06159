"""What a client asks for in the OpenAI API, checked as vLLM checks it, and vLLM's error bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .tokenizer import IDS, Tokenizer

DEFAULT_MAX_TOKENS = 16
"""Of the completions API; a chat answer may fill the context."""


class ApiError(Exception):
    """An answer other than 200.

    Args:
        status: HTTP status.
        kind: vLLM's name of it.
    """

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, object] = {"error": {"message": message, "type": kind, "param": param, "code": status}}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Common(msgspec.Struct):
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int | None = 0
    ignore_eos: bool | None = False
    stop: str | list[str] | None = None
    n: int | None = 1
    best_of: int | None = 1
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    user: str | None = None
    echo: bool | None = False
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None


class _Completion(_Common):
    prompt: str | list[Any] | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Chat(_Common):
    messages: list[_Message] = []
    add_generation_prompt: bool = True


class _Tokenize(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[_Message] | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = False


class _Detokenize(msgspec.Struct):
    tokens: list[int]
    model: str | None = None


_completion = msgspec.json.Decoder(_Completion, strict=True)
_chat = msgspec.json.Decoder(_Chat, strict=True)
_tokenize = msgspec.json.Decoder(_Tokenize)
_detokenize = msgspec.json.Decoder(_Detokenize)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for tokens that can be served.

    Attributes:
        prompt: its token ids.
        max_tokens: the most it may generate; within the context.
        ignore_eos: generate all of ``max_tokens``.
        stop: strings that end the answer.
        include_usage, continuous_usage: of a stream: usage at its end, and in every event.
        session: whose requests belong together, by the ``user`` field.
    """

    chat: bool
    prompt: Sequence[int]
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stop: Sequence[str]
    stream: bool
    include_usage: bool
    continuous_usage: bool
    session: str | None


def read_ask(body: bytes, *, chat: bool, model: str, max_model_len: int, tokenizer: Tokenizer) -> Ask:
    """The request in a body.

    Raises:
        ApiError: vLLM's answer to a body that it would not serve.
    """
    asked: _Common
    try:
        asked = _chat.decode(body) if chat else _completion.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is not what this endpoint takes: {error}") from None
    check_model(asked.model, model)
    _check_supported(asked)
    if isinstance(asked, _Chat):
        prompt = tokenizer.chat(_texts(asked.messages), add_generation_prompt=asked.add_generation_prompt)
    else:
        prompt = _prompt(asked.prompt if isinstance(asked, _Completion) else None, tokenizer)
    max_tokens = _max_tokens(asked, chat, len(prompt), max_model_len)
    options = asked.stream_options
    if options is not None and not asked.stream:
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    min_tokens = asked.min_tokens or 0
    if not 0 <= min_tokens <= max_tokens:
        raise ApiError(400, f"min_tokens must be between 0 and max_tokens={max_tokens}, got {min_tokens}.")
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if "" in stop:
        raise ApiError(400, "stop cannot contain an empty string.", param="stop")
    return Ask(
        chat=chat,
        prompt=prompt,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=bool(asked.ignore_eos),
        stop=stop,
        stream=bool(asked.stream),
        include_usage=options is not None and bool(options.include_usage),
        continuous_usage=options is not None and bool(options.include_usage and options.continuous_usage_stats),
        session=asked.user,
    )


def mistaken(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Request parameters of a type that no request may have, and what is wrong with each."""
    for name, value in parameters.items():
        try:
            msgspec.convert({name: value}, _Common)
        except msgspec.ValidationError as error:
            expected = str(error).removeprefix("Expected ").partition(", got ")[0]
            yield name, f"this should be {expected}, not {value!r}"


def check_model(asked: str | None, model: str) -> None:
    """Raises ApiError for a model that is not served; none at all is the only one."""
    if asked is not None and asked != model:
        raise ApiError(404, f"The model `{asked}` does not exist.", "NotFoundError", "model")


def tokenize(body: bytes, *, model: str, max_model_len: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """The answer of /tokenize, for a prompt or for messages. There are no special tokens to add to a prompt.

    Raises:
        ApiError: the body is of neither form.
    """
    try:
        asked = _tokenize.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is not what this endpoint takes: {error}") from None
    check_model(asked.model, model)
    if asked.messages is not None:
        ids = tokenizer.chat(_texts(asked.messages), add_generation_prompt=asked.add_generation_prompt)
    elif asked.prompt is not None:
        ids = tokenizer.encode(asked.prompt)
    else:
        raise ApiError(400, "either prompt or messages is needed", param="prompt")
    strings = [tokenizer.decode([i]) for i in ids] if asked.return_token_strs else None
    return {"count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": strings}


def detokenize(body: bytes, *, model: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """The answer of /detokenize.

    Raises:
        ApiError: the body holds no token ids.
    """
    try:
        asked = _detokenize.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is not what this endpoint takes: {error}") from None
    check_model(asked.model, model)
    _check_ids(asked.tokens, "tokens")
    return {"prompt": tokenizer.decode(asked.tokens)}


def _check_supported(asked: _Common) -> None:
    if asked.n not in (None, 1) or asked.best_of not in (None, 1):
        raise ApiError(400, "the simulator gives one answer a request: n and best_of must be 1", param="n")
    if asked.echo:
        raise ApiError(400, "the simulator does not echo prompts", param="echo")
    some = asked.logprobs is not None and asked.logprobs is not False  # 0: those of the tokens of a completion alone
    if some or asked.top_logprobs or asked.prompt_logprobs is not None:
        raise ApiError(400, "the simulator has no log probabilities", param="logprobs")


def _texts(messages: Sequence[_Message]) -> list[tuple[str, str]]:
    if not messages:
        raise ApiError(400, "messages must not be empty", param="messages")
    return [(message.role, _text(message.content)) for message in messages]


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        if other := next((part.type for part in content if part.text is None), None):
            raise ApiError(400, f"the simulator takes text only, no parts of type '{other}'", param="messages")
        return "".join(part.text or "" for part in content)
    return content or ""


def _prompt(prompt: str | list[Any] | None, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a text, of ids, or of a list that holds one of these."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt or []
    if not ids:
        raise ApiError(400, "the prompt must not be empty", param="prompt")
    if {*map(type, ids)} != {int}:
        raise ApiError(400, "prompt takes one text or one list of token ids; several prompts need as many requests")
    _check_ids(ids, "prompt")
    return ids


def _check_ids(ids: Sequence[int], param: str) -> None:
    wrong = next((i for i in (min(ids, default=0), max(ids, default=0)) if not 0 <= i < IDS), None)
    if wrong is not None:
        raise ApiError(400, f"Token id {wrong} is out of vocabulary; ids are 0 to {IDS - 1}.", param=param)


def _max_tokens(asked: _Common, chat: bool, prompt: int, limit: int) -> int:
    room = limit - prompt
    name = "messages" if chat else "prompt"
    if room < 1:
        raise ApiError(
            400,
            f"This model's maximum context length is {limit} tokens. However, your request has {prompt} input tokens. "
            f"Please reduce the length of the input {name}.",
            param="input_tokens",
        )
    wanted = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    if wanted is None:
        return room if chat else min(DEFAULT_MAX_TOKENS, room)
    if wanted < 1:
        raise ApiError(400, f"max_tokens must be at least 1, got {wanted}.", param="max_tokens")
    if wanted > room:
        raise ApiError(
            400,
            f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum context length is "
            f"{limit} tokens and your request has {prompt} input tokens ({wanted} > {limit} - {prompt}).",
            param="max_tokens",
        )
    return wanted
