"""Why two load generators differ on a metric: known causes, each given only where its own evidence is in the data.

A cause must differ between the two stages itself, by enough and in the direction that explains the metric. What none of
them explains stays unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..domain.result import Absent, Difference, Distribution, Measured, Metrics, Reason, Scalar, Why
from .readings import Compared, Measurement, value_of

LEAST = 0.02
"""A cause that differs by less than this fraction explains nothing."""
SHARE = 0.2
"""Nor does one that differs by less than this part of what it should explain."""
BURSTINESS = 0.2
"""Coefficients of variation of the sent gaps that differ by less are the same arrivals."""

_LATENCY = ("ttft", "tpot", "itl", "e2e")
_THROUGHPUT = ("output_tokens_per_second", "requests_per_second")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two stages that differ on a metric.

    Attributes:
        difference: of the second over the first minus 1 (of fractions: second minus first).
        unsteady: differences on this metric of a generator from itself.
        reasons: why the run is not valid, if so.
        group: every stage with this load.
    """

    first: Measurement
    second: Measurement
    metric: Compared
    difference: float
    unsteady: Sequence[Difference]
    reasons: Sequence[Reason]
    group: Sequence[Measurement] = ()

    @property
    def base(self) -> str:
        return self.metric.name.partition(".")[0]

    @property
    def both(self) -> tuple[Measurement, Measurement]:
        return self.first, self.second


def causes(pair: Pair) -> list[Why]:
    """The causes that the data show, the plainest first."""
    return [why for cause in _CAUSES for why in cause(pair)]


def _name(m: Measurement) -> str:
    return m.result.load_generator


def _known(m: Measurement, code: str) -> str | None:
    """What the events say is known of the tool under that code; told beside the evidence, never without it."""
    return m.data.window.known.get(code)


def _notes(code: str, *tools: Measurement) -> str:
    """What is known of these tools under that cause."""
    found = [note for m in tools if (note := _known(m, code)) is not None]
    return "".join(f"; {note}" for note in dict.fromkeys(found))


def _short_of(pair: Pair, asked: int | None) -> list[Measurement]:
    """The stages that had fewer requests in flight than asked for."""
    values = [(m, m.metrics.concurrency) for m in pair.both]
    return [m for m, v in values if asked and isinstance(v, Measured) and v.value < (1 - LEAST) * asked]


def _not_the_server(pair: Pair) -> list[Measurement]:
    """The stages whose output tokens the server did not count."""
    return [m for m in pair.both if m.metrics.output_length.source != "usage"]


def _factor(pair: Pair, get: Callable[[Metrics], Scalar], sign: int) -> tuple[float, float] | None:
    """Both values of something that, growing, moves the metric in the direction ``sign``; None where it does not
    differ by enough, or in the wrong direction."""
    a, b = (get(m.metrics) for m in pair.both)
    if not (isinstance(a, Measured) and isinstance(b, Measured)) or a.value <= 0 or b.value <= 0:
        return None
    change = b.value / a.value - 1
    least = max(LEAST, SHARE * abs(pair.difference)) if pair.metric.relative else LEAST
    explains = abs(change) >= least and change * sign * pair.difference > 0
    return (a.value, b.value) if explains else None


def _told(pair: Pair, values: tuple[float, float], what: str, unit: str = "") -> str:
    names = [_name(m) for m in pair.both]
    if names[0] == names[1]:
        names = [f"{_name(m)} ({m.result.name})" for m in pair.both]
    shown = [f"{n} {v:.4g}{unit}" for n, v in zip(names, values, strict=True)]
    return f"{what}: {shown[0]}, {shown[1]}"


def _concurrency(pair: Pair) -> Iterator[Why]:
    """Requests really in flight in a closed loop; in an open one they follow from the latency, and explain nothing."""
    if pair.first.data.window.rate is not None or pair.base not in (*_LATENCY, *_THROUGHPUT):
        return
    values = _factor(pair, lambda m: m.concurrency, 1)
    if values:
        asked = pair.first.data.window.concurrency
        text = _told(pair, values, f"requests in flight on average ({asked} were asked for)")
        yield Why("concurrency", text + _notes("concurrency", *_short_of(pair, asked)))


def _input_length(pair: Pair) -> Iterator[Why]:
    sign = {"ttft": 1, "e2e": 1, "output_tokens_per_second": -1, "requests_per_second": -1}.get(pair.base)
    values = None if sign is None else _factor(pair, lambda m: m.input_length.achieved, sign)
    if values:
        yield Why("input_length", _told(pair, values, "prompts differ in length", " tokens"))


def _output_length(pair: Pair) -> Iterator[Why]:
    sign = {"e2e": 1, "requests_per_second": -1}.get(pair.base)
    values = None if sign is None else _factor(pair, lambda m: m.output_length.achieved, sign)
    if values:
        yield Why("output_length", _told(pair, values, "answers differ in length", " tokens"))


def _asked_lengths(pair: Pair) -> Iterator[Why]:
    """Of a length itself: what was asked for, and who counted."""
    if pair.base not in ("input_length", "output_length"):
        return
    a, b = (getattr(m.metrics, pair.base) for m in pair.both)
    asked = _factor(pair, lambda m: getattr(m, pair.base).asked, 1)
    if asked:
        yield Why("asked", _told(pair, asked, "different lengths were asked for", " tokens"))
    if a.source and b.source and a.source != b.source:
        counted = f"counted by: {_name(pair.first)} {a.source}, {_name(pair.second)} {b.source}"
        yield Why("token_counts", counted + _notes("token_counts", *_not_the_server(pair)))
    ends = [str(m.result.load.get("endpoint", "unknown")) for m in pair.both]
    shorter, longer = ends if pair.difference > 0 else reversed(ends)
    left = _factor(pair, _against_asked(pair), 1)
    if pair.base == "input_length" and (shorter, longer) == ("completions", "chat") and left:
        text = f"{_name(pair.first)} used {ends[0]}, {_name(pair.second)} {ends[1]}; a chat template adds tokens"
        yield Why("endpoint", text)


def _against_asked(pair: Pair) -> Callable[[Metrics], Scalar]:
    """The length of prompts in parts of what was asked for, as far as that is known of both: what a template adds is no
    more than that leaves."""
    known = all(isinstance(m.metrics.input_length.deviation, Measured) for m in pair.both)

    def found(m: Metrics) -> Scalar:
        off = m.input_length.deviation
        return Measured(1 + off.value, "") if known and isinstance(off, Measured) else m.input_length.achieved

    return found


def _token_counts(pair: Pair) -> Iterator[Why]:
    """Times per token and tokens/s, where the same answers were counted in different ways."""
    sign = {"tpot": -1, "output_tokens_per_second": 1}.get(pair.base)
    sources = [m.metrics.output_length.source for m in pair.both]
    values = None if sign is None else _factor(pair, lambda m: m.output_length.achieved, sign)
    if values and None not in sources and sources[0] != sources[1]:
        counted = f"output tokens counted by {sources[0]} and by {sources[1]}"
        text = _told(pair, values, counted, " tokens")
        yield Why("token_counts", text + _notes("token_counts", *_not_the_server(pair)))


def _arrivals(pair: Pair) -> Iterator[Why]:
    """Burstier arrivals queue more. In a closed loop requests come together where answers ended together, and wait for
    each other's prompts; how many decode at once it does not change."""
    a, b = (m.metrics.sent_gap_cv for m in pair.both)
    asked_for = pair.first.data.window.rate is not None
    if pair.base not in (_LATENCY if asked_for else ("ttft", "e2e")):
        return
    if not (isinstance(a, Measured) and isinstance(b, Measured)):
        return
    change = b.value - a.value
    if abs(change) > BURSTINESS and change * pair.difference > 0:
        what = "variation (CV) of the gaps between sent requests"
        if not asked_for:
            what = f"requests that come together wait for each other; {what}"
        text = _told(pair, (a.value, b.value), what)
        constant = [m for m in pair.both if asked_for and m.data.window.arrival == "constant"]
        yield Why("arrivals", text + _notes("arrivals", *constant))


def _sent_rate(pair: Pair) -> Iterator[Why]:
    if pair.first.data.window.rate is None or pair.base not in (*_LATENCY, *_THROUGHPUT):
        return
    values = _factor(pair, lambda m: m.achieved_rate, 1)
    if values:
        text = _told(pair, values, f"requests/s really sent ({pair.first.data.window.rate:g} were asked for)")
        yield Why("sent_rate", text)


def _errors(pair: Pair) -> Iterator[Why]:
    """Failed requests complete nothing; those that are refused at once also leave room for others."""
    a, b = (m.metrics.error_rate for m in pair.both)
    if pair.base not in _THROUGHPUT or not (isinstance(a, Measured) and isinstance(b, Measured)):
        return
    change = b.value - a.value
    if abs(change) >= max(LEAST, SHARE * abs(pair.difference)) and change * pair.difference < 0:
        yield Why("errors", _told(pair, (100 * a.value, 100 * b.value), "failed requests", " %"))


def _error_classes(pair: Pair) -> Iterator[Why]:
    """How the requests of each failed."""
    if pair.base == "error_rate":
        failed = [m.metrics.requests.errors for m in pair.both]
        if set(failed[0]) != set(failed[1]):
            said = [", ".join(f"{n} {name}" for name, n in f.items()) or "no failures" for f in failed]
            names = [_name(m) for m in pair.both]
            yield Why("error_classes", f"they failed otherwise: {names[0]} {said[0]}; {names[1]} {said[1]}")


def _chunks(pair: Pair) -> Iterator[Why]:
    """Gaps between what was taken for chunks: one tool saw fewer and longer ones."""
    if pair.base != "itl":
        return

    def per_token(m: Metrics) -> Scalar:
        """Of each token after the first: longer answers have more gaps of the same kind."""
        tokens = m.output_length.achieved
        if not (isinstance(m.itl, Distribution) and isinstance(m.e2e, Distribution) and isinstance(tokens, Measured)):
            return Absent("no chunks, or of no known number of tokens")
        after = m.e2e.count * (tokens.value - 1)
        return Measured(m.itl.count / after, "") if after > 0 else Absent("no token after the first")

    values = _factor(pair, per_token, -1)
    if values:
        what = "gaps between chunks for each token after the first"
        yield Why("chunks", _told(pair, values, what) + _notes("chunks", *pair.both))


def _connections(pair: Pair) -> Iterator[Why]:
    """A tool that connects anew for every request and counts that in, as long as another took for one."""
    if pair.base not in ("ttft", "e2e"):
        return
    slow, fast = (pair.second, pair.first) if pair.difference > 0 else (pair.first, pair.second)
    note = _known(slow, "connections")
    others = [m for m in (fast, *pair.group) if _known(m, "connections") is None]
    measured = [(d.mean, _name(m)) for m in others if isinstance(d := m.metrics.connect, Distribution)]
    ttfts = [m.metrics.ttft.at("p50") if isinstance(m.metrics.ttft, Distribution) else None for m in (slow, fast)]
    if note is None or not measured or ttfts[0] is None or ttfts[1] is None:
        return
    (setup, by), apart = measured[0], ttfts[0] - ttfts[1]
    if 0.3 * apart <= setup <= 3 * apart:
        text = f"{note}: {setup * 1e3:.3g} ms as {by} measured it"
        yield Why("connections", f"{text}, of {apart * 1e3:.3g} ms between the two")


def _definition(pair: Pair) -> Iterator[Why]:
    """A tool's own figure, of which there are no requests to compute ours from."""
    for m in pair.both:
        found = getattr(m.metrics, pair.base)
        note = _known(m, f"definition.{pair.base}")
        if note and isinstance(found, Distribution) and found.limits == "reported":
            yield Why("definition", f"{_name(m)} kept no requests, so this is its own figure; {note}")


def _slower(pair: Pair) -> Measurement | None:
    """The stage that did worse on a latency or a rate; None of other metrics."""
    sign = 1 if pair.base in _LATENCY else -1 if pair.base in _THROUGHPUT else 0
    return None if not sign else pair.second if pair.difference * sign > 0 else pair.first


def _client(pair: Pair) -> Iterator[Why]:
    """A client that was itself late measures itself."""
    slow = _slower(pair)
    for reason in pair.reasons if slow is not None else ():
        if slow is not None and reason.stage == slow.result.index and reason.code in ("schedule_delay", "loop_lag"):
            said = reason.message.removeprefix(f"stage {slow.result.name}: ")
            yield Why("client", f"the client of {_name(slow)} was late: {said}")


def _client_pause(pair: Pair) -> Iterator[Why]:
    """In a closed loop a user sends again at once; a client that takes its time over that also reads late."""
    slow = _slower(pair)
    if slow is None or pair.base not in _LATENCY or pair.first.data.window.rate is not None:
        return
    fast = pair.first if slow is pair.second else pair.second
    pauses, apart = [_pause(m) for m in (slow, fast)], _apart(pair)
    if pauses[0] is None or pauses[1] is None or apart is None:
        return
    if pauses[0] - pauses[1] >= max(0.001, SHARE * apart):
        text = (
            f"{_name(slow)} took {pauses[0] * 1e3:.3g} ms from an answer to the user's next request, {_name(fast)} "
            f"{pauses[1] * 1e3:.3g} ms: a client that is so busy also sees answers late"
        )
        yield Why("client_pause", text)


def _pause(m: Measurement) -> float | None:
    """Seconds between an answer and the next request of the same user of a closed loop, on average."""
    asked, found, rate = m.data.window.concurrency, m.metrics.concurrency, m.metrics.requests_per_second
    if asked is None or not (isinstance(found, Measured) and isinstance(rate, Measured)) or rate.value <= 0:
        return None
    return max(0.0, asked - found.value) / rate.value


def _apart(pair: Pair) -> float | None:
    """By how many seconds the two differ on a latency."""
    base, _, level = pair.metric.name.partition(".")
    found = [getattr(m.metrics, base) for m in pair.both]
    values = [d.at(level) if isinstance(d, Distribution) else None for d in found]
    return None if values[0] is None or values[1] is None else abs(values[1] - values[0])


def _unsteady(pair: Pair) -> Iterator[Why]:
    """Without the part of a stage that was not steady the two are closer to each other."""
    if pair.base not in (*_LATENCY, *_THROUGHPUT):
        return
    # gaps are counted over the whole window; they change as the time per token does
    name = pair.metric.name.replace("itl.", "tpot.")
    for m, other in (pair.both, pair.both[::-1]):
        if m.settled is None:
            continue
        whole, settled, theirs = (value_of(x, name) for x in (m.metrics, m.settled, other.metrics))
        if not (isinstance(whole, Measured) and isinstance(settled, Measured) and isinstance(theirs, Measured)):
            continue
        if abs(settled.value - theirs.value) <= (1 - SHARE) * abs(whole.value - theirs.value):
            yield Why("not_steady", f"the stage of {_name(m)} was {m.result.steady_state.message}")


def _drift(pair: Pair) -> Iterator[Why]:
    """The same generator with the same load did not measure the same twice: the server changed meanwhile."""
    for d in pair.unsteady:
        if abs(d.difference) >= SHARE * abs(pair.difference):
            text = (
                f"one generator differs from itself by {d.difference:+.1%} between its stages {d.first} and {d.second}"
            )
            yield Why("drift", text + "; the server, or the machine, changed meanwhile")


_CAUSES: tuple[Callable[[Pair], Iterator[Why]], ...] = (
    _asked_lengths,
    _concurrency,
    _sent_rate,
    _arrivals,
    _input_length,
    _output_length,
    _token_counts,
    _errors,
    _error_classes,
    _chunks,
    _connections,
    _definition,
    _client,
    _client_pause,
    _unsteady,
    _drift,
)
