"""Settings of Kafka clients arrive as text and reach the library as what it takes."""

from __future__ import annotations

import pytest

from sequence_platform.errors import StoreError
from sequence_platform.sources.kafka_log.clients import typed


def test_text_becomes_what_the_library_takes() -> None:
    given = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/etc/ca.pem",
        "ssl_check_hostname": "False",
        "request_timeout_ms": "5000",
        "receive_buffer_bytes": "65536",
        "compression_type": "zstd",
        "sasl_plain_password": "12345",
    }
    assert typed(given) == {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/etc/ca.pem",
        "ssl_check_hostname": False,
        "request_timeout_ms": 5000,
        "receive_buffer_bytes": 65_536,
        "compression_type": "zstd",
        "sasl_plain_password": "12345",
    }


def test_a_setting_that_nobody_knows_is_refused_with_one_that_is_close() -> None:
    with pytest.raises(StoreError, match="close: 'ssl_cafile'"):
        typed({"ssl_ca_file": "x"})


@pytest.mark.parametrize("name", ["group_id", "auto_offset_reset", "isolation_level"])
def test_what_the_promises_rest_on_is_not_for_others_to_set(name: str) -> None:
    with pytest.raises(StoreError, match="one that the log's promises rest on"):
        typed({name: "latest"})


def test_a_wrong_value_is_shown() -> None:
    with pytest.raises(StoreError, match="'soon'"):
        typed({"request_timeout_ms": "soon"})


def test_what_is_no_text_cannot_be_set() -> None:
    with pytest.raises(StoreError, match="cannot be given"):
        typed({"selector": "epoll"})
