"""Targets: where the server under test comes from, as an async context that gives an ``Endpoint``; and its probes.

In: ``spec.target``. Out: ``domain.endpoint.Endpoint``, findings. One protocol (``api.Target``), one file per
implementation. Must not import loadgen, store, report or anything above.
"""
