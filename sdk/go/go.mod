module github.com/llm-d/llm-d-benchmark/sdk/go

go 1.22
