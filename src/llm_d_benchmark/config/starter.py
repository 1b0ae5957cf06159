"""The file that ``config init`` writes."""

STARTER = """\
# A benchmark. Run it with:  llm-d-benchmark run -c THIS-FILE
# Check it with:             llm-d-benchmark config validate THIS-FILE
# Every key is described in docs/configuration.md; what is left out has a default (llm-d-benchmark config show).
apiVersion: llm-d.io/v1alpha1
kind: BenchmarkConfig
metadata:
  name: my-benchmark

spec:
  # The server under test: one that is running ...
  target:
    type: existing
    existing:
      url: http://localhost:8000
      # model: NAME                      # default: the first one the server lists
      # api_key: {env: OPENAI_API_KEY}   # never the key itself
  # ... or one that is started for the run and stopped after it (local: a small real model on this machine):
  # target: {type: local, local: {slots: 4}}

  benchmark:
    duration: 60s        # measured window of each stage
    warmup: 10s          # load before it, not measured
    cooldown: 2s         # load after it, not measured
    goodput:             # a request that keeps all of these counts as goodput
      ttft: 500ms
      tpot: 50ms
    load_generators:
      - type: native
        config:
          input_length: 512       # tokens; or {distribution: lognormal, mean: 512, std_dev: 200, max: 4096}
          output_length: 128
          parameters: {ignore_eos: true, temperature: 0}
          # One stage after the other; `concurrency` is a closed loop, `request_rate` an open one.
          stages:
            - {concurrency: 1}
            - {concurrency: 8}
            - {request_rate: 4, arrival: poisson}
          # Or let it find the knee by itself:
          # sweep: {over: rate, start: 1}

  # What is good enough; a failed objective ends the command with exit code 3.
  performance_targets:
    slos:
      - {name: p95_latency, target: "<10s", weight: 0.5}
      - {name: p99_ttft, target: "<1s", weight: 0.5}
"""
