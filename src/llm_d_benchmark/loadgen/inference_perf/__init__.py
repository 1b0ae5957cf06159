"""inference-perf (kubernetes-sigs): its config.yml, its reports. ``generator`` is what is registered."""
