"""The real clock: an HTTP server that speaks the OpenAI API and paces its answers by the engine model.

In: ``SimulatorTargetConfig``. Out: one endpoint for the router and one for each replica, with /metrics. Started as
``python -m llm_d_benchmark.simulator.server`` by ``target/simulator.py`` and by ``llm-d-benchmark simulator serve``.
"""
