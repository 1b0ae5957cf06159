"""Load generators of others: each runs in an environment of its own, and its results become our records.

In: a ``LoadJob``. Out: records and events like the native engine's. One module per tool registers an ``Adapter``, which
states all that is known of it; what all tools need (environments, processes, logs, the stages) is here once. Must not
import target, store, report or above.
"""
