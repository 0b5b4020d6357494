"""The API does what its OpenAPI says, whatever it is asked: schemathesis tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Client

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
hypothesis = pytest.importorskip("hypothesis")
positive_data_acceptance = pytest.importorskip(
    "schemathesis.specs.openapi.checks"
).positive_data_acceptance

pytestmark = pytest.mark.filterwarnings("default")  # what it does is not ours to mend


def test_the_api_keeps_its_word(start: Callable[..., Client], monkeypatch: Any) -> None:
    client = start()
    schema = schemathesis.openapi.from_url(
        f"http://127.0.0.1:{client.studio.port}/api/openapi.json"
    )
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/api/events":  # it never ends; test_studio.py listens to it
            continue

        @hypothesis.settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            # Random bytes are no song, and random ids nothing that is there: refusing is right.
            case.call_and_validate(timeout=60, excluded_checks=[positive_data_acceptance])

        check()
        tried.add((operation.method.upper(), operation.path))
    assert len(tried) >= 14
    assert client.ask("GET", "/api/studio")[0] == 200
