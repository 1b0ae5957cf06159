"""A self-contained HTML page of sections: what the pages that compare runs have in common."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..domain.version import VERSION
from .plot import Figure
from .tables import HtmlTable
from .verdict import Verdict


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands under it; ``anchor`` is its id in the page, ``code`` a text to be copied."""

    title: str
    anchor: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[HtmlTable] = ()
    items: Sequence[str] = ()
    folded: Sequence[HtmlTable] = ()
    folded_title: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page. ``command`` reproduces it; ``verdict`` stands first where there is one."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    verdict: Verdict | None = None
    badge: str = ""
    command: str = ""


def render_page(page: Page) -> str:
    """HTML that holds its own charts library, loads nothing, and forbids itself to."""
    drawn = [figure for section in page.sections for figure in section.figures]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            version=VERSION,
            drawn=drawn,
            figures_json=script_json([figure.plot() for figure in drawn]),
            plotly=plotly_base64() if drawn else "",
        )
    )


@cache
def environment() -> Environment:
    """Templates of this package, escaped."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def plotly_base64() -> str:
    """plotly.js, compressed for the page (the browser unpacks it): 2 MB instead of 5 in every run folder."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    packer = zlib.compressobj(level=4, wbits=31)
    return base64.b64encode(packer.compress(script) + packer.flush()).decode("ascii")


def script_json(value: Sequence[Any]) -> Markup:
    """JSON that no value can use to close its script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
