"""When a verdict is told, and when it is told again."""

import pytest
from hypothesis import given, strategies as st

from occorr.standing import PATIENCE_S, SETTLE_S, Standing


def close(ident, cause="restart.manual", verdict="decisive", code=1012):
    return {
        "close_id": ident,
        "timestamp": "2026-11-21T05:00:00Z",
        "cause": cause,
        "family": cause.partition(".")[0],
        "verdict": verdict,
        "probability": 0.98,
        "websocket_close_code": code,
        "http_status_proxy": None,
    }


def cites(ident, *events):
    return [{"close_id": ident, "event_id": e, "role": "supports"} for e in events]


def names(told):
    return [(t.close["close_id"], t.close["cause"], t.revised) for t in told]


def test_what_one_line_decides_is_told_at_once_and_once():
    standing = Standing()
    refused = close("a", "auth.token_mismatch", code=1008)
    assert names(standing.see([refused], cites("a", "e1"), 10.0)) == [("a", "auth.token_mismatch", False)]
    assert standing.see([refused], cites("a", "e1"), 11.0) == []
    assert standing.due(99.0) == [] and standing.next_s() is None


def test_a_restart_is_told_when_it_has_settled():
    standing = Standing()
    assert standing.see([close("a", "restart.manual")], [], 10.0) == []
    assert standing.see([close("a", "restart.unhealthy")], [], 10.3) == []
    assert standing.next_s() == 10.3 + SETTLE_S
    assert standing.due(10.2 + SETTLE_S) == []
    assert names(standing.due(10.3 + SETTLE_S)) == [("a", "restart.unhealthy", False)]


@pytest.mark.parametrize("cause", ["restart.crash", "restart.oom"])
def test_a_death_that_its_own_process_explains_does_not_wait_for_the_next_start(cause):
    assert names(Standing().see([close("a", cause)], [], 10.0)) == [("a", cause, False)]
    assert Standing().see([close("a", cause, "circumstantial")], [], 10.0) == []


def test_a_quick_restart_whose_first_line_comes_before_the_death_is_not_told_as_unknown():
    """The log of the new process is read by another thread than the event of the old one's death."""
    standing = Standing()
    assert standing.see([close("a", "unknown.unknown", "unknown", None)], [], 10.0) == []
    assert standing.due(11.0) == []
    assert names(standing.see([close("a", "restart.crash", code=None)], [], 11.1)) == [("a", "restart.crash", False)]


def test_what_stays_unknown_is_told_within_two_seconds():
    standing = Standing()
    standing.see([close("a", "unknown.unknown", "unknown", None)], [], 10.0)
    assert standing.next_s() < 11.5
    assert names(standing.due(11.5)) == [("a", "unknown.unknown", False)]


def test_a_verdict_that_goes_on_changing_is_told_all_the_same():
    standing, now, told = Standing(), 10.0, []
    while not told and now < 20:
        told = standing.see([close("a", "restart.deploy" if int(now * 10) % 2 else "restart.manual")], [], now)
        now += 0.1
    assert now <= 10.0 + PATIENCE_S + 0.2


def test_a_revision_says_what_was_told():
    standing = Standing()
    standing.see([close("a", "restart.manual")], [], 10.0)
    standing.due(11.0)
    assert standing.see([close("a", "restart.deploy")], [], 12.0) == []
    (told,) = standing.due(12.0 + SETTLE_S)
    assert told.revised and told.before["cause"] == "restart.manual" and told.close["cause"] == "restart.deploy"


def test_a_verdict_that_returns_to_what_was_told_is_no_news():
    standing = Standing()
    standing.see([close("a", "restart.manual")], [], 10.0)
    standing.due(11.0)
    standing.see([close("a", "restart.deploy")], [], 12.0)
    standing.see([close("a", "restart.manual")], [], 12.1)
    assert standing.due(99.0) == []


def test_a_proxy_line_that_turns_out_to_be_the_gateways_close_is_revised_and_not_told_twice():
    standing = Standing()
    standing.see([close("p", "unknown.unknown", "unknown", None)], cites("p", "line-of-proxy"), 10.0)
    assert names(standing.due(11.5)) == [("p", "unknown.unknown", False)]
    standing.see([close("g", "restart.killed", code=None)], cites("g", "line-of-gateway", "line-of-proxy"), 11.6)
    (told,) = standing.due(13.0)
    assert told.revised and told.before["close_id"] == "p" and told.close["close_id"] == "g"
    assert standing.known() == ["g"]


def test_a_close_that_is_gone_before_it_was_told_is_never_told():
    standing = Standing()
    standing.see([close("a")], [], 10.0)
    standing.see([], [], 10.1)
    assert standing.due(99.0) == [] and standing.known() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["restart.manual", "restart.oom", "auth.origin", "unknown.unknown"]), st.floats(0.01, 2.0)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_the_verdicts_do_the_last_one_is_what_was_told_last(steps):
    standing, now, told = Standing(), 0.0, []
    for cause, pause in steps:
        told += standing.see([close("a", cause)], [], now)
        now += pause
        told += standing.due(now)
    told += standing.due(now + 10)
    assert told[-1].close["cause"] == steps[-1][0]
    assert [t.revised for t in told] == [False] + [True] * (len(told) - 1)
    assert all(t.before["cause"] == before.close["cause"] for before, t in zip(told, told[1:]))
