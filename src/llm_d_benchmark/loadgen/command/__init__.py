"""Custom generators: any executable that speaks the protocol of docs/protocol.md as a load generator.

In: a ``LoadJob``, and JSON lines from the executable. Out: records and events, like every other load generator.
"""
