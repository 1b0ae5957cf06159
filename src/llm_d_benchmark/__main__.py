"""``python -m llm_d_benchmark --config F --output D`` is the same as ``llm-d-benchmark run``."""

from .cli.app import main

if __name__ == "__main__":
    main()
