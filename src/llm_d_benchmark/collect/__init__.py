"""Collectors: time series of the server, its hosts and GPUs, beside any load generator.

In: ``CollectJob`` (the endpoint, where to look, how often). Out: ``Samples``, and findings where something could not be
collected: a collector that fails degrades the result with a reason and never the measurement. One file per kind. Must
not import loadgen, target, store, report or above.
"""
