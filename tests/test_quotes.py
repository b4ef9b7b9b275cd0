"""A line in the fewest words: what decides stands first, stamps and rows of fields go."""

from __future__ import annotations

import polars as pl
import pytest

from occorr import quotes, schema

ROWS = {
    # Each as the gateway, the proxy or the engine writes it, and what a person would read out of it.
    "a close line's code stands behind its user agent": (
        {"source_kind": "gateway", "event_name": "websocket.close", "websocket_close_code": 1008, "websocket_close_reason": "pairing required", "conn_id": "656dcc09-28e1-49f3-b22a-a4105245d114", "client_address": "192.0.2.115",
         "body": "closed before connect conn=656dcc09-28e1-49f3-b22a-a4105245d114 peer=192.0.2.115:56387->192.0.2.2:18789 ua=Mozilla/5.0 code=1008 reason=pairing required"},
        "closed before connect code 1008 “pairing required” conn 656dcc09 from 192.0.2.115",
    ),
    "a refusal's reason": (
        {"source_kind": "gateway", "event_name": "auth.unauthorized", "conn_id": "14ee74d5-27b1-4a38-a4c4-0d73cc161d9e", "body": "unauthorized conn=14ee74d5… reason=token_mismatch", "attributes": [{"key": "auth_reason", "value": "token_mismatch"}]},
        "unauthorized: token_mismatch conn 14ee74d5",
    ),
    "a console line without its two stamps": (
        {"source_kind": "gateway", "event_name": "websocket.error", "body": "error conn=7c3e862d remote=192.0.2.113: Invalid WebSocket frame: RSV2 and RSV3 must be clear"},
        "error conn=7c3e862d remote=192.0.2.113: Invalid WebSocket frame: RSV2 and RSV3 must be clear",
    ),
    "a request": (
        {"source_kind": "proxy", "event_name": "http.access", "client_address": "192.0.2.103", "http_request_method": "GET", "url_path": "/", "http_response_status_code": 502, "duration_ns": 2_000_000},
        "192.0.2.103 GET / status 502 after 0.002 s",
    ),
    "an engine's event": (
        {"source_kind": "docker", "event_name": "container.kill", "container_name": "claw_gateway_1", "attributes": [{"key": "signal", "value": "15"}], "log_record_original": '{"Action":"kill"}'},
        "container kill claw_gateway_1 signal 15",
    ),
    "a line that no field was read from": ({"source_kind": "other", "log_record_original": "as it is"}, "as it is"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_saying(name):
    row, said = ROWS[name]
    row = {"log_record_original": "2026-11-21T05:47:06.414Z …", "attributes": [], "event_id": "e"} | row
    types = schema.working(schema.EVENTS)
    frame = schema.conform(
        pl.DataFrame({c: pl.Series(c, [row.get(c)], dtype=types[c]) for c in schema.EVENTS}), schema.EVENTS
    )
    assert quotes.sayings(frame)["said"].to_list() == [said]
