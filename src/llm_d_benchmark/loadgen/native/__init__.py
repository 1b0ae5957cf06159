"""The native engine: worker processes that own shards of the schedule, on uvloop and httptools.

In: a ``LoadJob``. Out: records and events. The request path does nothing but read a clock and keep bytes; everything
else is decoded after the stream has ended.
"""
