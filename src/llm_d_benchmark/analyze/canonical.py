"""Normalisation of what collectors saw: one source per metric, fractions that are fractions, one name per thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ..domain.result import FindingRecord, TargetInfo
from .resources import KV_USE
from .timeseries import Line, Lines

PROMETHEUS = "prometheus "
"""What sources begin with whose series came through Prometheus."""
_GPU = re.compile(r"(?:[ABHLTV]|GB|MI)\d{1,3}[A-Z]?", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+)GB", re.IGNORECASE)
_FORMS = (("SXM", "SXM"), ("PCIE", "PCIe"), ("NVL", "NVL"), ("HBM3", "SXM"))
_ONLY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "H200": ("SXM", "141GB"),
        "B200": ("SXM", "180GB"),
        "L40S": ("", "48GB"),
        "L40": ("", "48GB"),
        "L4": ("", "24GB"),
        "T4": ("", "16GB"),
        "H100": ("", "80GB"),
        "MI300X": ("", "192GB"),
    }
)
"""GPU -> form and memory of the usual one, where its name leaves them out."""
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "vllm": "vLLM",
        "sglang": "SGLang",
        "tensorrt": "TensorRT-LLM",
        "trtllm": "TensorRT-LLM",
        "text-generation-inference": "TGI",
        "tgi": "TGI",
        "llama.cpp": "llama.cpp",
        "llamacpp": "llama.cpp",
        "llama-server": "llama.cpp",
    }
)
"""What a server's, an image's or a metric's name contains -> engine."""


def normalise(lines: Lines) -> tuple[Lines, list[FindingRecord]]:
    """The series without those that another source has, too, and with fractions from 0 to 1."""
    kept, findings = _once(lines)
    fixed = [_fraction(line) for line in kept]
    percents = sorted({a.series.metric for a, b in zip(kept, fixed, strict=True) if a is not b})
    if percents:
        text = f"{', '.join(percents)} came in percent and was divided by 100"
        findings.append(FindingRecord("normalised", "info", text))
    return Lines(fixed), findings


def _once(lines: Lines) -> tuple[list[Line], list[FindingRecord]]:
    """Of a metric that was scraped and also came through Prometheus: that with more series, as scraped where equal."""
    direct, through = _metrics(lines, prometheus=False), _metrics(lines, prometheus=True)
    twice = direct.keys() & through.keys()
    fuller = {m for m in twice if through[m] > direct[m]}
    kept = [li for li in lines if li.series.metric not in twice or _came_through(li) == (li.series.metric in fuller)]
    if not twice:
        return kept, []
    text = f"{len(twice)} metrics were scraped and came through Prometheus, too; each is taken once"
    if fuller:
        text += f" ({len(fuller)} from Prometheus, which saw more series)"
    return kept, [FindingRecord("seen_twice", "info", text)]


def _came_through(line: Line) -> bool:
    return line.series.source.startswith(PROMETHEUS)


def _metrics(lines: Iterable[Line], *, prometheus: bool) -> dict[str, int]:
    """Metric -> number of series."""
    found: dict[str, int] = {}
    for line in lines:
        if _came_through(line) == prometheus and not line.series.metric.startswith("clock_offset_"):
            found[line.series.metric] = found.get(line.series.metric, 0) + 1
    return found


def _fraction(line: Line) -> Line:
    """Use of the KV cache is a fraction by its definition, but some servers' versions send percent."""
    if line.series.metric not in KV_USE or not len(line.values) or float(line.values.max()) <= 1.5:
        return line
    return replace(line, values=line.values / 100)


def names(target: TargetInfo, lines: Lines) -> dict[str, str]:
    """Canonical ``gpu``, ``model`` and ``engine`` of what was measured, as far as somebody told."""
    told = [str(target.info[k]) for k in ("gpu", "accelerator") if isinstance(target.info.get(k), str)]
    seen = [v for li in lines for v in (li.label("modelName"), li.label("model")) if v and _is_gpu_metric(li)]
    gpus = sorted({gpu_name(g) for g in [*told, *seen]})
    engines = [target.server or "", *(li.series.metric.partition(":")[0] for li in lines if ":" in li.series.metric)]
    engine = next((e for e in map(engine_name, engines) if e), None)
    found = {
        "gpu": ", ".join(gpus) or None,
        "model": model_name(target.model) if target.model else None,
        "engine": engine,
    }
    return {k: v for k, v in found.items() if v}


def _is_gpu_metric(line: Line) -> bool:
    return line.series.metric.startswith(("DCGM_", "gpu_"))


def gpu_name(text: str) -> str:
    """One spelling for what drivers, Kubernetes labels and people call a GPU: ``NVIDIA H100 SXM 80GB``.

    A name that is not understood stays as it is.
    """
    words = [w for w in re.split(r"[\s_-]+", text.strip()) if w]
    model = next((w.upper() for w in words if _GPU.fullmatch(w)), None)
    if model is None:
        return text.strip()
    form = next((f for begin, f in _FORMS if any(w.upper().startswith(begin) for w in words)), "")
    memory = next((f"{m[1]}GB" for w in words if (m := _MEMORY.fullmatch(w))), "")
    usual = _ONLY.get(model, ("", ""))
    vendor = "AMD Instinct" if model.startswith("MI") else "NVIDIA"
    return " ".join(w for w in (vendor, model, form or usual[0], memory or usual[1]) if w)


def model_name(text: str) -> str:
    """The hub's name of a model that is called by a path or a cache folder: ``org/name``, else the file's name."""
    cached = re.search(r"models--([^/]+?)--([^/]+)", text)
    if cached:
        return f"{cached[1]}/{cached[2]}"
    return text.rstrip("/").rpartition("/")[2] if text.startswith(("/", "./", "~")) else text


def engine_name(text: str) -> str | None:
    """The engine that a server's name, image or metric prefix tells; None where it is none that is known."""
    lower = text.lower()
    return next((name for part, name in ENGINES.items() if part in lower), None)


def engines_seen(metrics: Sequence[str]) -> set[str]:
    """Engines whose own metrics are among these."""
    prefixes = {m.partition(":")[0] if ":" in m else m.partition("_")[0] for m in metrics}
    return {name for p in prefixes if p in ("vllm", "sglang", "llamacpp", "tgi", "trtllm") if (name := engine_name(p))}
