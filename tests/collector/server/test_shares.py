"""One caller never takes all there is."""

from __future__ import annotations

import pytest

from collector.server.collectors import Collector
from looptap_collector.server.errors import Refusal
from looptap_collector.server.shares import Shares
from looptap_collector.testing.batches import Journal, started


def test_three_quarters_for_one_and_the_rest_for_others() -> None:
    """A caller with its share is told so, others still get theirs, and what is given back can be taken again."""
    shares = Shares("seats", 8, retry_after=3)
    shares.take("greedy", 6)
    with pytest.raises(Refusal, match="its share of 6 already") as refused:
        shares.take("greedy")
    assert (refused.value.status, refused.value.retry_after) == (503, 3)
    shares.take("other", 2)
    with pytest.raises(Refusal, match="all 8 are taken"):
        shares.take("third")
    shares.give_back("greedy", 6)
    assert shares.taken == 2
    shares.take("third", 6)


@pytest.mark.parametrize("of", ["streams", "uploading", "questions", "batches"])
def test_a_greedy_token_does_not_keep_others_out(collector: Collector, of: str) -> None:
    """One token with all the streams, uploads, answers or waiting batches that it may have: another one is served."""
    service = collector.app.state.service
    shares = {
        "streams": service.streams,
        "uploading": service.uploading,
        "questions": service.unsent,
        "batches": service.intake._bytes,
    }[of]
    shares.take("greedy", shares._each)
    collector.send(Journal().batch(started()))
    client = collector.client("admin")
    if of == "streams":
        with client.stream("GET", "/v1/live", params={"run": "r1"}) as stream:
            assert stream.status_code == 200
    elif of == "uploading":
        assert client.put("/v1/artifacts/" + "0" * 64, content=b"x").status_code == 422
    elif of == "questions":
        assert client.get("/v1/runs").status_code == 200
    else:
        assert collector.send(Journal("j2", "r2").batch(started("r2"))).status_code == 200
