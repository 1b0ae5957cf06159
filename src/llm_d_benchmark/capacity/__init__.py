"""The capacity planner: from a replica's performance and a load to replicas, GPUs and cost; and what fits into memory.

Pure: models, loads and prices in, a ``domain.capacity.CapacityPlan`` out. ``plan`` is the entry.
"""
