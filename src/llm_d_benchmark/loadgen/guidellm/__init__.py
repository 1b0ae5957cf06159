"""guidellm (vllm-project): its command, its report, its scenario files. ``generator`` is what is registered."""
