"""Signatures of AWS, against its published examples ("Signature Version 4 test suite"); the suite of bridges has botocore check others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agents.bridges.sigv4 import Keys, signed
from registry.egress.http import Outgoing

KEYS = Keys(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
PUBLISHED = {
    "get-vanilla": (
        Outgoing(method="GET", url="https://example.amazonaws.com/"),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "post-vanilla": (
        Outgoing(url="https://example.amazonaws.com/"),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "get-vanilla-query-order-key-case": (
        Outgoing(method="GET", url="https://example.amazonaws.com/?Param2=value2&Param1=value1"),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
}


@pytest.mark.parametrize("example", PUBLISHED)
def test_a_request_is_signed_as_aws_signs_it(example: str) -> None:
    outgoing, signature = PUBLISHED[example]
    headers = dict(signed(KEYS, ("us-east-1", "service"), outgoing, AT))
    assert headers["x-amz-date"] == "20150830T123600Z"
    assert headers["authorization"].endswith(f"SignedHeaders=host;x-amz-date, Signature={signature}")


def test_a_secret_is_not_shown() -> None:
    assert "wJalr" not in repr(KEYS)
