"""Datasets and traces as they are found, and how trouble with them is told."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.workload.api import Content, HasFindings
from llm_d_benchmark.workload.rows import read_rows
from tests.workload.support import closed, workload, write


def contents(options: dict[str, Any], *, count: int = 10**6, stage: int = 0, endpoint: str = "chat") -> list[Content]:
    return list(islice(workload(options, endpoint).contents(closed(stage), 1), count))


def first_words(content: Content, count: int) -> list[str]:
    return str(content.turns[0].prompt).split()[:count]


class TestDataset:
    def test_rows_with_prompts_and_lengths(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "d.jsonl", '{"prompt": "a b", "output_length": 4}\n\n{"prompt": "c", "output_length": ""}\n'
        )
        got = contents({"type": "dataset", "path": path, "loop": False, "order": "file", "output_length": 9})
        assert [c.turns[0].prompt for c in got] == ["a b", "c"]
        assert [c.turns[0].output_asked for c in got] == [4, 9]
        assert [c.turns[0].input_asked for c in got] == [2 + 3, 1 + 3]

    def test_every_lap_is_a_new_shuffle_of_all_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "d.jsonl", "".join(f'{{"prompt": "p{i}"}}\n' for i in range(30)))
        prompts = [c.turns[0].prompt for c in contents({"type": "dataset", "path": path}, count=60)]
        assert Counter(prompts[:30]) == Counter(prompts[30:]) == Counter(f"p{i}" for i in range(30))
        assert prompts[:30] != prompts[30:]
        assert prompts[:30] != [f"p{i}" for i in range(30)]

    def test_csv_with_prompts_that_hold_lines_and_hashes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "d.csv", '# a comment\nprompt,output_length\n"# Title\n# more",5\nplain,6\n')
        got = contents({"type": "dataset", "path": path, "loop": False, "order": "file"})
        assert [c.turns[0].prompt for c in got] == ["# Title\n# more", "plain"]

    def test_messages_go_as_they_are(self, tmp_path: Path) -> None:
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        path = write(tmp_path / "d.jsonl", json.dumps({"messages": messages}))
        assert contents({"type": "dataset", "path": path}, count=1)[0].turns[0].prompt == tuple(messages)

    def test_lengths_as_pandas_writes_them(self, tmp_path: Path) -> None:
        path = write(tmp_path / "d.csv", "prompt,output_length\na,8.0\n")
        assert contents({"type": "dataset", "path": path}, count=1)[0].turns[0].output_asked == 8

    def test_conversations_without_a_human_are_left_out_and_counted(self, tmp_path: Path) -> None:
        spoken = [{"from": "human", "value": "hi"}, {"from": "bard", "value": "hello"}]
        rows = [[], [{"from": "bing", "value": "x"}], spoken, [{"from": "human", "value": ""}]]
        path = write(tmp_path / "d.json", json.dumps([{"conversations": turns} for turns in rows]))
        made = workload({"type": "dataset", "path": path, "loop": False})
        assert [t.prompt for c in made.contents(closed(), 1) for t in c.turns] == [({"role": "user", "content": "hi"},)]
        assert isinstance(made, HasFindings)
        assert [f.message for f in made.findings()] == [f"{path}: 3 conversations without a human turn were left out"]

    def test_a_bad_row_anywhere_is_told_before_the_first_is_used(self, tmp_path: Path) -> None:
        path = write(tmp_path / "d.jsonl", '{"prompt": "a"}\n' * 50 + '{"text": "b"}\n')
        with pytest.raises(ConfigError, match=r"d.jsonl:51: none of prompt"):
            contents({"type": "dataset", "path": path, "order": "file"}, count=1)

    @pytest.mark.parametrize("endpoint", ["chat", "completions"])
    @pytest.mark.parametrize("multi_turn", [True, False])
    def test_sharegpt(self, tmp_path: Path, endpoint: str, multi_turn: bool) -> None:
        turns = [
            {"from": "system", "value": "be brief"}, {"from": "human", "value": "hello"},
            {"from": "gpt", "value": "hi"}, {"from": "human", "value": "bye"}, {"from": "gpt", "value": "bye"},
        ]  # fmt: skip
        path = write(tmp_path / "d.json", json.dumps([{"id": "x", "conversations": turns}]))
        options = {"type": "dataset", "path": path, "multi_turn": multi_turn}
        (content,) = contents(options, count=1, endpoint=endpoint)
        chat = [
            ({"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}),
            ({"role": "user", "content": "bye"},),
        ]
        want: list[Any] = chat if endpoint == "chat" else ["be brief\nhello", "bye"]
        assert [t.prompt for t in content.turns] == want[: 2 if multi_turn else 1]

    def test_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "d.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"prompt": "packed"}\n'))
        assert contents({"type": "dataset", "path": str(path)}, count=1)[0].turns[0].prompt == "packed"

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("d.jsonl", '{"prompt": "a"}\n{"prompt"\n', r"d.jsonl:2: not JSON"),
            ("d.jsonl", '{"prompt": "a"}\n["b"]\n', r"d.jsonl:2: a row must be a JSON object"),
            ("d.jsonl", '{"text": "a"}\n', r"d.jsonl:1: none of prompt, messages or conversations"),
            ("d.jsonl", '{"prompt": "a", "output_length": "many"}\n', r"d.jsonl:1: output_length 'many'"),
            ("d.jsonl", '{"prompt": "a", "output_length": NaN}\n', r"d.jsonl:1: output_length 'nan'"),
            ("d.jsonl", '{"messages": ["a"]}\n', r"d.jsonl:1: each of messages needs role and content"),
            ("d.jsonl", '{"prompt": "a", "output_length": 1e999}\n', r"d.jsonl:1: output_length 'inf'"),
            ("d.jsonl", '{"conversations": [{"value": "a"}]}\n', r"d.jsonl:1: a turn needs from"),
            ("d.jsonl", '{"conversations": [{"from": "gpt", "value": "a"}]}\n', r"holds no rows with a human turn"),
            ("d.jsonl", "\n\n", r"holds no rows"),
            ("d.csv", "# only\n# comments\n", r"holds no rows"),
            ("d.csv", "prompt\na\n" + "x" * 200_000, r"d.csv:\d: field larger"),
            ("d.json", '{"prompt": "a"}', r"must hold an array"),
            ("d.json", "[1]", r"d.json: row 1 must be a JSON object"),
            ("d.json", "[", r"d.json: not JSON"),
            ("d.parquet", "x", r"unknown kind of file; use .csv, .jsonl or .json"),
            ("d.jsonl.gz", "not packed", r"cannot read .*d.jsonl.gz"),
        ],
    )
    def test_trouble_is_told_with_its_place(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        path = write(tmp_path / name, text)
        with pytest.raises(ConfigError, match=message):
            contents({"type": "dataset", "path": path, "loop": False, "order": "file"})

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read .*none.jsonl: No such file"):
            contents({"type": "dataset", "path": str(tmp_path / "none.jsonl")})
        (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            contents({"type": "dataset", "path": str(tmp_path / "latin.jsonl")})
        whole = gzip.compress(b'{"prompt": "a"}\n' * 1000)
        (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConfigError, match=r"cannot read .*cut.jsonl.gz"):
            list(read_rows(str(tmp_path / "cut.jsonl.gz")))


class TestTrace:
    def test_times_are_relative_and_lengths_are_kept(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.csv", "timestamp,input_length,output_length,model\n10.5,8,2,lora\n12,2,1,\n")
        got = contents({"type": "trace", "path": path})
        assert [(c.offset_s, c.model) for c in got] == [(0.0, "lora"), (1.5, None)]
        assert [(t.input_asked, t.output_asked, len(str(t.prompt).split())) for c in got for t in c.turns] == [
            (8, 2, 5),
            (2, 1, 1),
        ]

    def test_azure_times_have_seven_digits(self, tmp_path: Path) -> None:
        rows = ["2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109",
                "2023-11-16 18:15:51.2225671,879,55"]  # fmt: skip
        path = write(tmp_path / "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
        got = contents({"type": "trace", "path": path})
        assert [c.offset_s for c in got] == pytest.approx([0, 4.314579, 4.5419771], abs=1e-6)
        assert got[1].turns[0].input_asked == 396

    def test_azure_2024_times_have_a_zone(self, tmp_path: Path) -> None:
        text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
        text += "2024-05-10 00:00:01+00:00,2399,6\n2024-05-10T00:00:02Z,10,6\n"
        got = contents({"type": "trace", "path": write(tmp_path / "a.csv", text)})
        assert [c.offset_s for c in got] == pytest.approx([0, 0.99007, 1.99007], abs=1e-6)

    def test_mooncake_blocks_of_equal_hash_are_equal(self, tmp_path: Path) -> None:
        rows = [
            {"timestamp": 0, "input_length": 1303, "output_length": 9, "hash_ids": [46, 47, 48]},
            {"timestamp": 1500, "input_length": 1103, "output_length": 9, "hash_ids": [46, 47, 99]},
            {"timestamp": 3000, "input_length": 1100, "output_length": 9, "hash_ids": [7, 47, 48]},
        ]
        path = write(tmp_path / "m.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
        a, b, c = contents({"type": "trace", "path": path})
        assert [x.offset_s for x in (a, b, c)] == [0, 1.5, 3.0]
        assert [len(str(x.turns[0].prompt).split()) for x in (a, b, c)] == [1300, 1100, 1097]
        one, two, three = (first_words(x, 2000) for x in (a, b, c))
        assert one[:1024] == two[:1024]
        assert one[1024:1100] != two[1024:]
        assert one[:512] != three[:512]
        assert one[512:1024] == three[512:1024]
        assert one[1024:1097] == three[1024:], "a shorter last block is the beginning of the whole one"

    def test_stages_share_no_blocks(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "m.jsonl", '{"timestamp": 0, "input_length": 600, "output_length": 9, "hash_ids": [1, 2]}'
        )
        first, second = (contents({"type": "trace", "path": path}, stage=i)[0] for i in (0, 1))
        assert first_words(first, 5) != first_words(second, 5)

    def test_long_ones_can_be_left_out(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.csv", "time,prompt_tokens,output_tokens\n0,10,1\n1,99,1\n2,20,1\n")
        got = contents({"type": "trace", "path": path, "max_input": 50})
        assert [(c.offset_s, c.turns[0].input_asked) for c in got] == [(0, 10), (2, 20)]

    def test_the_unit_of_times_can_be_given(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.csv", "time,input,output\n0,10,1\n2500,9,1\n")
        assert contents({"type": "trace", "path": path, "time_unit": "ms"})[1].offset_s == 2.5

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("timestamp,input,output\n1,2,3\n0.5,2,3\n", r"t.csv:3: the timestamp lies before"),
            ("timestamp,input,output\n0,2,3\n5,2,3\n4,2,3\n", r"t.csv:4: the timestamp lies before"),
            ("timestamp,input,output\nnoon,2,3\n", r"t.csv:2: timestamp 'noon' is neither"),
            ("timestamp,input,output\nnan,2,3\n", r"t.csv:2: timestamp 'nan' is not a time"),
            ("timestamp,input,output\n0,two,3\n", r"t.csv:2: input 'two' is not a number of tokens"),
            ("timestamp,input\n0,2\n", r"t.csv:2: no output_length"),
            ("when,input,output\n0,2,3\n", r"t.csv:2: no timestamp"),
            ("timestamp,input,output\n", "holds no rows"),
        ],
    )
    def test_trouble_is_told_with_its_place(self, tmp_path: Path, text: str, message: str) -> None:
        path = write(tmp_path / "t.csv", text)
        with pytest.raises(ConfigError, match=message):
            contents({"type": "trace", "path": path})

    def test_hash_ids_must_be_numbers(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.jsonl", '{"timestamp": 0, "input_length": 9, "output_length": 9, "hash_ids": ["x"]}')
        with pytest.raises(ConfigError, match=r"m.jsonl:1: hash_ids must be whole numbers, not 'x'"):
            contents({"type": "trace", "path": path})


class TestOptions:
    def test_an_unknown_workload_gets_the_nearest_name(self) -> None:
        with pytest.raises(ConfigError, match=r"no workload 'synthetik'; there are: .*dataset.*trace") as caught:
            workload({"type": "synthetik"})
        assert caught.value.advice == "did you mean 'synthetic'?"

    def test_an_unknown_key_gets_the_nearest_one_and_all_of_them(self) -> None:
        with pytest.raises(
            ConfigError, match=r"'conversation' has no key 'think_tim'; did you mean 'think_time'\? It takes"
        ):
            workload({"type": "conversation", "think_tim": 3})
        with pytest.raises(ConfigError, match=r"'synthetic' has no key 'zzz'. It takes: input_length, output_length"):
            workload({"zzz": 3})

    def test_a_wrong_value_names_its_key(self) -> None:
        with pytest.raises(ConfigError, match=r"workload 'shared_prefix': groups: .*greater than or equal to 1"):
            workload({"type": "shared_prefix", "groups": 0})
        with pytest.raises(ConfigError, match="distribution 'normal' needs mean, std_dev"):
            workload({"type": "synthetic", "input_length": {"distribution": "normal"}})

    @pytest.mark.parametrize("kind", ["dataset", "trace", "shared_prefix"])
    def test_a_length_that_would_have_no_effect_is_refused(self, kind: str) -> None:
        with pytest.raises(ConfigError, match=f"'{kind}' brings its own lengths; leave out 'input_length'"):
            workload(
                {"type": kind, "path": "x", "input_length": 5}
                if kind != "shared_prefix"
                else {"type": kind, "input_length": 5}
            )

    def test_every_mistake_is_told_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            workload({"type": "conversation", "turnz": 1, "system_length": -1})
        assert len(caught.value.message.splitlines()) == 2
