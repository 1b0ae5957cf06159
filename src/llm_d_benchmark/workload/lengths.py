"""Token lengths: fixed, uniform, normal, lognormal, or from a file."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np

from ..config.load import Length
from ..domain.errors import ConfigError


def draw(length: Length, rng: np.random.Generator) -> int:
    """One length in tokens, at least 1, within the distribution's ``min`` and ``max``.

    ``mean`` and ``std_dev`` are those of the length itself, before it is cut to the bounds.
    """
    match length.distribution:
        case "fixed":
            value = float(length.value or 1)
        case "uniform":
            value = float(rng.integers(length.min or 1, (length.max or 1) + 1))
        case "normal":
            value = rng.normal(length.mean or 1, length.std_dev or 0)
        case "lognormal":
            mu, sigma = lognormal_parameters(length.mean or 1, length.std_dev or 0)
            value = rng.lognormal(mu, sigma)
        case "file":
            choices = lengths_of_file(length.path or "")
            value = float(choices[rng.integers(len(choices))])
    low, high = length.min or 1, length.max if length.max is not None else math.inf
    return int(min(max(round(value), low), high))


def moments(length: Length) -> tuple[float, float] | None:
    """Mean and standard deviation of what is drawn; None where the bounds cut off so much that it matters how."""
    match length.distribution:
        case "fixed":
            return float(length.value or 1), 0.0
        case "uniform":
            low, high = length.min or 1, length.max or 1
            return (low + high) / 2, math.sqrt(((high - low + 1) ** 2 - 1) / 12)
        case "file":
            lengths = np.asarray(lengths_of_file(length.path or ""))
            within = ((length.min or 1) <= lengths) & (lengths <= (length.max or math.inf))
            return (float(lengths.mean()), float(lengths.std())) if within.all() else None
    mean, sd = length.mean or 1.0, length.std_dev or 0.0
    low_enough = 1 if length.distribution == "lognormal" else mean - 2 * sd
    whole = (length.min or 1) <= low_enough and mean + 3 * sd <= (length.max or math.inf)
    return (mean, sd) if whole else None


def lognormal_parameters(mean: float, std_dev: float) -> tuple[float, float]:
    """mu and sigma of the lognormal with this mean and standard deviation: sigma^2 = ln(1 + sd^2/mean^2)."""
    variance = math.log1p((std_dev / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


@cache
def lengths_of_file(path: str) -> tuple[int, ...]:
    """Lengths of a text file, one a line; of a CSV, its first column (a header line is passed over).

    Raises:
        ConfigError: the file cannot be read or holds something else.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the lengths in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    out = []
    for number, line in enumerate(lines, 1):
        text = line.split(",")[0].strip()
        if not text or (number == 1 and not text.isdigit()):
            continue
        if not text.isdigit() or int(text) < 1:
            raise ConfigError(f"{path}:{number}: '{text}' is not a length; write one positive whole number per line")
        out.append(int(text))
    if not out:
        raise ConfigError(f"{path} holds no lengths")
    return tuple(out)
