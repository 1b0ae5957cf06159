"""The load generator of virtual time: an ordinary job against a deployment that is simulated in the same process.

In: a ``LoadJob`` whose options hold a ``VirtualDeployment``. Out: the records and events that the native engine would
give, in simulated time. Nothing is sent and nobody waits; a request leaves at the moment it is ready.
"""
