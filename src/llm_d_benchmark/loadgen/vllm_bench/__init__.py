"""``vllm bench serve``: its options, its detailed results. ``generator`` is what is registered."""
