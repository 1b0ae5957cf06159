"""The tables of the index of runs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()

RUNS = Table(
    "llm_d_runs",
    METADATA,
    Column("path", String(1024), primary_key=True),  # a copied folder has the same run id
    Column("run_id", String(256), nullable=False),
    Column("name", String(256), nullable=False),
    Column("status", String(32), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("target", String(64), nullable=False),
    Column("model", String(512)),
    Column("server", String(512)),
    Column("fingerprint", String(128), nullable=False),
    Column("tool_version", String(64), nullable=False),
    Column("config_digest", String(128), nullable=False),
    Column("slos", String(32), nullable=False),
    Column("requests", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("labels", Text, nullable=False),
    Column("stamp", String(128), nullable=False),  # what the folder looked like when it was read
    Index("llm_d_runs_by_start", "started"),
    Index("llm_d_runs_by_id", "run_id"),
)

STAGES = Table(
    "llm_d_stages",
    METADATA,
    Column("path", String(1024), primary_key=True),
    Column("stage", Integer, primary_key=True),
    Column("name", String(256), nullable=False),
    Column("load_generator", String(64), nullable=False),
    Column("load", String(256), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("metrics", Text, nullable=False),  # JSON: {"ttft.p99": [value, unit], ...}; what is absent is not there
)
