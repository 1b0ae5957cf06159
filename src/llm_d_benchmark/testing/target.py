"""What every target must do, as tests: subclass ``TargetConformance`` and give it a ``target`` fixture.

class TestMine(TargetConformance):
    @pytest.fixture
    def target(self):
        return MyTarget({...})
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from ..domain.endpoint import Endpoint, Secret
from ..target.api import Target, TargetContext
from ..target.probe import ServerProbe


class TargetConformance:
    """Tests of one target, which must be able to come up on the machine at hand. Needs no pytest plugin."""

    def test_it_has_a_type_and_a_plan_that_can_be_shown(self, target: Target) -> None:
        assert target.type
        assert inspect.isawaitable(target.plan()) is False
        json.dumps(dict(target.plan()))

    def test_planning_starts_nothing(self, target: Target, tmp_path: Path) -> None:
        target.plan()
        assert list(tmp_path.iterdir()) == []

    def test_the_endpoint_answers_once_it_is_given(self, target: Target, tmp_path: Path) -> None:
        async def use(endpoint: Endpoint) -> None:
            assert endpoint.model
            assert not endpoint.url.endswith(("/", "/v1"))
            async with ServerProbe(endpoint) as probe:
                checks = [await probe.streaming_check(kind) for kind in ("chat", "completions")]
            assert any(check.ok for check in checks), checks

        _with_endpoint(target, tmp_path, use)

    def test_info_can_go_into_a_manifest_and_holds_no_secret(self, target: Target, tmp_path: Path) -> None:
        async def use(endpoint: Endpoint) -> None:
            text = json.dumps(dict(endpoint.info))
            secrets = [endpoint.api_key, *(v for v in endpoint.headers.values() if isinstance(v, Secret))]
            assert not [s for s in secrets if s is not None and s.reveal() in text]
            assert endpoint.info["type"] == target.type
            assert len(str(endpoint.info["fingerprint"])) == 64

        _with_endpoint(target, tmp_path, use)

    def test_the_same_server_has_the_same_fingerprint(self, target: Target, tmp_path: Path) -> None:
        seen: list[object] = []

        async def use(endpoint: Endpoint) -> None:
            seen.append(endpoint.info["fingerprint"])

        _with_endpoint(target, tmp_path, use)
        _with_endpoint(target, tmp_path, use)
        assert seen[0] == seen[1]

    def test_what_it_started_is_gone_afterwards_even_after_an_error(self, target: Target, tmp_path: Path) -> None:
        import psutil

        pids: list[int] = []

        async def use(endpoint: Endpoint) -> None:
            if endpoint.pid is not None:
                assert psutil.pid_exists(endpoint.pid)
                pids.append(endpoint.pid)
            raise _Planned

        with suppress(_Planned):
            _with_endpoint(target, tmp_path, use)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]


class _Planned(Exception):  # noqa: N818 - it is no error
    """Raised inside the context, as a failing run would."""


def _with_endpoint(target: Target, folder: Path, use: Callable[[Endpoint], Awaitable[None]]) -> None:
    async def run() -> None:
        async with target.open(TargetContext(log_dir=folder / "logs")) as endpoint:
            await use(endpoint)

    asyncio.run(run())
