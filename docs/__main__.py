"""``python -m docs``: write the reference pages that are generated from the code."""

from pathlib import Path

from docs.generate import PAGES

if __name__ == "__main__":
    for name, make in PAGES.items():
        (Path(__file__).parent / name).write_text(make(), encoding="utf-8")
