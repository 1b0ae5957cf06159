"""``python -m llm_d_benchmark.loadgen.command.schema`` writes the published JSON Schema anew from the types."""

from __future__ import annotations

import json

from .messages import SCHEMA, schema


def main() -> None:
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")


if __name__ == "__main__":
    main()
