"""The configuration: files, environment and flags in, one validated BenchmarkConfig out.

In: YAML text, ``LLM_D_BENCHMARK_*`` variables, ``--set`` assignments. Out: ``BenchmarkConfig`` (pydantic), the origin
of each value, the JSON Schema, migrations. Imports ``domain`` only.
"""
