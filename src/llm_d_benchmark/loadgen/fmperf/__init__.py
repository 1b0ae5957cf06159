"""fmperf (fmperf-project): its variables and sample requests, its rows. ``generator`` is what is registered."""
