"""What every decoder promises: ports.MessageDecoder, over the register; and what Avro adds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.errors import StoreError
from sequence_platform.ports import MessageDecoder
from sequence_platform.settings import Settings
from sequence_platform.sources.avro_messages import AvroDecoder, SchemaRegistry
from sequence_platform.wiring import message_decoder
from sequence_platform_tests.backends import DECODERS
from sequence_platform_tests.schema_registry import registry

SCHEMA = pl.Schema(
    {
        "user_id": pl.Int64(),
        "item": pl.String(),
        "score": pl.Float64(),
        "is_ad": pl.Boolean(),
        "tags": pl.List(pl.String),
        "place": pl.Struct({"page": pl.String, "position": pl.Int32}),
    }
)
CLICK: dict[str, Any] = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "user_id", "type": "long"},
        {"name": "item", "type": ["null", "string"]},
        {"name": "score", "type": "double"},
        {"name": "is_ad", "type": "boolean"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {
            "name": "place",
            "type": {
                "type": "record",
                "name": "Place",
                "fields": [
                    {"name": "page", "type": "string"},
                    {"name": "position", "type": "int"},
                ],
            },
        },
        {"name": "extra", "type": "string", "default": ""},
    ],
}
CLICK_PLACE = CLICK["fields"][5]["type"]
ROWS: list[dict[str, Any]] = [
    {
        "user_id": 2**62,
        "item": "é\n☃",
        "score": 0.1,
        "is_ad": True,
        "tags": ["a", "b"],
        "place": {"page": "home", "position": 3},
        "extra": "x",
    },
    {
        "user_id": -1,
        "item": None,
        "score": -2.5,
        "is_ad": False,
        "tags": [],
        "place": {"page": "", "position": 0},
        "extra": "",
    },
]


def avro(record: object, schema: dict[str, Any], number: int) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return b"\0" + number.to_bytes(4, "big") + stream.getvalue()


def encoded(kind: str, rows: Sequence[dict[str, Any]]) -> list[bytes]:
    if kind == "json":
        return [json.dumps(row).encode() for row in rows]
    return [avro(row, CLICK, 1) for row in rows]


def answer(schema: object, **more: object) -> tuple[int, dict[str, object]]:
    return 200, {"schema": json.dumps(schema), **more}


OTHERS = {
    "type": "record",
    "name": "Other",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "sent", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        },
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "ratio", "type": "double"},
        {"name": "raw", "type": "bytes"},
    ],
}
ANSWERS = {
    "/schemas/ids/1": answer(CLICK),
    "/schemas/ids/2": answer(OTHERS),
    "/schemas/ids/3": answer("message Click {}", schemaType="PROTOBUF"),
    "/schemas/ids/4": answer({"type": "nonsense"}),
    "/schemas/ids/5": answer(
        {"type": "record", "name": "Visit", "fields": [{"name": "place", "type": "shop.Place"}]},
        references=[{"name": "shop.Place", "subject": "shop/place", "version": 2}],
    ),
    "/subjects/shop%2Fplace/versions/2": answer(
        {
            "type": "record",
            "name": "shop.Place",
            "fields": [{"name": "page", "type": "string"}, {"name": "position", "type": "int"}],
        }
    ),
    "/schemas/ids/6": (200, "<html>"),
    "/schemas/ids/7": (404, "<html>not the registry</html>"),
    "/schemas/ids/8": (500, {"error_code": 50001, "message": "store"}),
    "/schemas/ids/9": answer("long"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry"), ANSWERS) as address:
        yield address


@pytest.fixture(params=sorted(DECODERS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def decoder(kind: str, url: str) -> MessageDecoder:
    return DECODERS[kind](url)


@pytest.fixture
def avro_decoder(url: str) -> AvroDecoder:
    return AvroDecoder(SchemaRegistry(url))


def rules(dead: pl.DataFrame) -> list[tuple[int, str]]:
    return list(dead.select("position", "rule").iter_rows())


def test_an_event_becomes_the_same_row_however_it_was_written(
    kind: str, decoder: MessageDecoder
) -> None:
    decoded = decoder.decode(encoded(kind, ROWS), SCHEMA)
    assert decoded.frame.schema == SCHEMA
    assert decoded.frame.to_dicts() == [
        {name: value for name, value in row.items() if name != "extra"} for row in ROWS
    ]
    assert (decoded.dead.height, decoded.dead.schema) == (0, DEAD_LETTERS)


def test_no_messages_are_no_rows(decoder: MessageDecoder) -> None:
    decoded = decoder.decode([], SCHEMA)
    assert (decoded.frame.height, decoded.dead.height) == (0, 0)
    assert (decoded.frame.schema, decoded.dead.schema) == (SCHEMA, DEAD_LETTERS)


def test_a_column_that_the_message_does_not_have_is_null(
    kind: str, decoder: MessageDecoder
) -> None:
    schema = pl.Schema({"user_id": pl.Int64, "unheard_of": pl.String})
    assert decoder.decode(encoded(kind, ROWS[1:]), schema).frame.rows() == [(-1, None)]


def test_each_bad_message_is_one_dead_letter_at_its_place(
    kind: str, decoder: MessageDecoder
) -> None:
    good = encoded(kind, ROWS)
    decoded = decoder.decode([None, good[0], b"", b"{]", good[1], b"\xff"], SCHEMA)
    assert decoded.frame["user_id"].to_list() == [2**62, -1]
    assert decoded.dead["position"].to_list() == [0, 2, 3, 5]
    assert rules(decoded.dead)[:2] == [(0, "empty_message"), (2, "empty_message")]


def test_a_value_that_does_not_fit_its_column_is_a_dead_letter(
    kind: str, decoder: MessageDecoder
) -> None:
    schema = pl.Schema({"user_id": pl.Int8, "item": pl.String})
    decoded = decoder.decode(encoded(kind, ROWS), schema)
    assert decoded.frame.rows() == [(-1, None)]
    assert rules(decoded.dead) == [(0, "wrong_type:user_id")]


def test_avro_messages_that_cannot_be_read_say_why(avro_decoder: AvroDecoder) -> None:
    good = avro(ROWS[0], CLICK, 1)
    messages = [
        b'{"user_id": 1}',
        b"\0\0",
        b"\0" + (77).to_bytes(4, "big") + b"x",
        good[:-2],
        good + b"x",
        b"\0" + (3).to_bytes(4, "big") + b"x",
        b"\0" + (4).to_bytes(4, "big") + b"x",
        good,
        avro(5, {"type": "long"}, 9),
    ]
    decoded = avro_decoder.decode(messages, SCHEMA)
    assert decoded.frame.height == 1
    assert rules(decoded.dead) == [
        (0, "not_framed"),
        (1, "not_framed"),
        (2, "unknown_schema"),
        (3, "malformed_avro"),
        (4, "malformed_avro"),
        (5, "not_avro"),
        (6, "not_avro"),
        (8, "not_an_object"),
    ]
    assert "schema 77" in decoded.dead["detail"][2]


def test_avro_times_numbers_and_bytes_arrive_as_what_they_mean(avro_decoder: AvroDecoder) -> None:
    at = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)
    record = {
        "at": at,
        "sent": datetime(2026, 3, 1, tzinfo=UTC),
        "day": date(2026, 3, 1),
        "price": Decimal("12.50"),
        "kind": "B",
        "ratio": float("nan"),
        "raw": "é".encode(),
    }
    schema = pl.Schema(
        {
            "at": pl.Datetime("us", "UTC"),
            "sent": pl.Int64(),
            "day": pl.Date(),
            "price": pl.Float64(),
            "kind": pl.String(),
            "raw": pl.String(),
        }
    )
    decoded = avro_decoder.decode([avro(record, OTHERS, 2)], schema)
    assert decoded.dead.to_dicts() == []
    assert decoded.frame.rows() == [
        (at, 1_772_323_200_000, date(2026, 3, 1), 12.5, "B", "é"),
    ]


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), float("-inf")])
def test_avro_numbers_that_json_cannot_say_are_kept(
    avro_decoder: AvroDecoder, ratio: float
) -> None:
    record = {
        "at": 0,
        "sent": None,
        "day": 0,
        "price": Decimal(1),
        "kind": "A",
        "ratio": ratio,
        "raw": b"",
    }
    decoded = avro_decoder.decode([avro(record, OTHERS, 2)], pl.Schema({"ratio": pl.Float64}))
    assert decoded.dead.to_dicts() == []
    assert repr(decoded.frame["ratio"].item()) == repr(ratio)


def test_a_schema_may_name_others(avro_decoder: AvroDecoder) -> None:
    flat = {"type": "record", "name": "Visit", "fields": [{"name": "place", "type": CLICK_PLACE}]}
    message = avro({"place": {"page": "home", "position": 3}}, flat, 5)
    schema = pl.Schema({"place": SCHEMA["place"]})
    assert avro_decoder.decode([message], schema).frame.rows() == [
        ({"page": "home", "position": 3},)
    ]


def test_a_schema_is_asked_for_once(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    with registry(tmp_path, ANSWERS, log=log) as url:
        decoder = AvroDecoder(SchemaRegistry(url))
        unknown = b"\0" + (77).to_bytes(4, "big") + b"x"
        for _ in range(3):
            decoder.decode([*encoded("avro", ROWS), unknown, unknown], SCHEMA)
    assert sorted(log.read_text().split()) == ["/schemas/ids/1", "/schemas/ids/77"]


@pytest.mark.parametrize(("number", "retryable"), [(6, False), (7, False), (8, True)])
def test_a_registry_that_does_not_answer_sensibly_stops_reading(
    avro_decoder: AvroDecoder, number: int, retryable: bool
) -> None:
    with pytest.raises(StoreError, match="the schema registry does not say") as raised:
        avro_decoder.decode([b"\0" + number.to_bytes(4, "big") + b"x"], SCHEMA)
    assert raised.value.retryable is retryable


def test_a_registry_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with registry(tmp_path, ANSWERS) as url:
        pass
    with pytest.raises(StoreError) as raised:
        AvroDecoder(SchemaRegistry(url)).decode(encoded("avro", ROWS), SCHEMA)
    assert raised.value.retryable


def test_a_registry_may_want_a_password(tmp_path: Path) -> None:
    with registry(tmp_path, ANSWERS, user="ann:geheim") as url:
        settings = Settings(schema_registry=url, schema_registry_user="ann:geheim")
        decoder = message_decoder(settings, "avro")
        assert decoder.decode(encoded("avro", ROWS), SCHEMA).frame.height == 2
        with pytest.raises(StoreError, match="HTTP 401") as raised:
            AvroDecoder(SchemaRegistry(url, user="ann:verkehrt")).decode(
                encoded("avro", ROWS), SCHEMA
            )
        assert not raised.value.retryable
        assert "verkehrt" not in str(raised.value)


def test_avro_without_a_registry_is_told() -> None:
    with pytest.raises(StoreError, match="without a schema registry"):
        message_decoder(Settings(schema_registry=""), "avro")
