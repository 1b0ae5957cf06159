"""Load generators: put a schedule of requests on an endpoint and give records back.

In: a ``LoadJob`` (endpoint, stages, workload, options). Out: ``Records`` batches at most five seconds old, and events.
One protocol (``api.LoadGenerator``), one file or folder per implementation. Must not import target, store, report or
anything above.
"""
