"""AIPerf (NVIDIA): its YAML configuration, its exports. ``generator`` is what is registered."""
