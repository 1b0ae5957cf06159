"""An inference server as a model: batching, queueing and cache pressure arise from its schedule, as in a real engine.

In: ``SimulatorTargetConfig`` and requests. Out: the times of their tokens. One engine model (pure, without a clock)
with two drivers: ``virtual`` (an event loop over simulated time) and ``server`` (real time, the OpenAI API over HTTP).
May import domain, config, workload, analyze and perfmodel. Must not import loadgen, target, store, report or above.
"""
