"""Secrets taken out of text that others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced, also where it stands escaped in JSON."""
    forms = {"".join(secret) for secret in secrets}  # a Secret hides itself from str()
    forms |= {json.dumps(f, ensure_ascii=ascii_)[1:-1] for f in forms for ascii_ in (True, False)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text
