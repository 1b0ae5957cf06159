"""What to send and when: prompts and lengths x arrivals -> sessions of requests; stages and sweeps.

In: the workload and load parts of the configuration, a prompt sizer. Out: iterators of ``domain.schedule.Session``,
stage sources. Pure and seeded: no network, no clock. Imports ``config`` and ``domain`` only.
"""
