from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sequence_platform.demo.shop_events import MARKER, ShopReport, generate_shop
from sequence_platform.errors import StoreError

END = date(2026, 10, 7)
EVENT_TYPES = ("product_view", "add_to_cart", "purchase", "search")


def generate(folder: Path, *, seed: int = 7, events: int = 30_000) -> ShopReport:
    return generate_shop(folder, days=7, end=END, events=events, users=600, products=300, seed=seed)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ShopReport:
    return generate(tmp_path_factory.mktemp("shop"))


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / name / "**/*.parquet", hive_partitioning=False)


def read_with_file_day(folder: Path, name: str) -> pl.DataFrame:
    files = sorted((folder / name).glob("day=*/*.parquet"))
    return pl.concat(
        pl.read_parquet(file, hive_partitioning=False).with_columns(
            file_day=pl.lit(date.fromisoformat(file.parent.name.removeprefix("day=")))
        )
        for file in files
    )


def test_the_same_seed_gives_the_same_data(shop: ShopReport, tmp_path: Path) -> None:
    again = generate(tmp_path)
    assert again.rows == shop.rows
    for name in shop.rows:
        assert_frame_equal(read(tmp_path, name), read(shop.folder, name))


def test_another_seed_gives_another_shop(shop: ShopReport, tmp_path: Path) -> None:
    generate(tmp_path, seed=8)
    views, others = read(shop.folder, "product_view"), read(tmp_path, "product_view")
    assert not views.head(100).equals(others.head(100))


@pytest.mark.parametrize("events", [3_000, 100_000])
def test_about_as_many_events_come_as_were_asked_for(tmp_path: Path, events: int) -> None:
    report = generate(tmp_path, events=events)
    written = sum(report.rows[name] for name in EVENT_TYPES)
    assert 0.85 * events < written < 1.1 * events


def test_every_day_has_a_file_of_every_event_type(shop: ShopReport) -> None:
    days = {f"day=2026-10-0{n}" for n in range(1, 8)}
    for name in EVENT_TYPES:
        assert {path.name for path in (shop.folder / name).iterdir()} == days
    assert shop.files == 4 * 7 + 3
    assert (shop.first_day, shop.last_day) == (date(2026, 10, 1), END)


def test_rows_lie_in_the_file_of_their_day_or_the_next(shop: ShopReport) -> None:
    carts = read_with_file_day(shop.folder, "add_to_cart").filter(
        pl.col("added_at").dt.year() == 2026
    )
    days_on = (carts["file_day"] - carts["added_at"].dt.date()).dt.total_days()
    assert set(days_on) == {0, 1}


def test_a_few_views_arrive_too_late_for_the_next_day(shop: ShopReport) -> None:
    views = read_with_file_day(shop.folder, "product_view").filter(pl.col("viewed_at") > 0)
    happened = pl.from_epoch("viewed_at", time_unit="ms").dt.date()
    days_on = views.select((pl.col("file_day") - happened).dt.total_days()).to_series()
    assert days_on.min() == 0
    assert 0 < (days_on > 1).sum() < 20


def test_redelivered_rows_are_exact_copies(shop: ShopReport) -> None:
    for name in EVENT_TYPES:
        rows = read(shop.folder, name)
        copies = rows.height - rows.unique().height
        assert 0 < copies <= shop.defects[f"{name} redelivered"]


def test_some_redeliveries_are_in_the_next_days_file(shop: ShopReport) -> None:
    searches = read_with_file_day(shop.folder, "search")
    files = searches.group_by("search_id").agg(pl.col("file_day").n_unique())
    assert (files["file_day"] == 2).any()


def test_corrections_raise_the_revision_and_arrive_later(shop: ShopReport) -> None:
    lines = read(shop.folder, "purchase").unique().sort("order_line_id", "revision")
    steps = lines.select(
        rises=pl.col("revision").diff().over("order_line_id"),
        later=pl.col("recorded_at").diff().over("order_line_id"),
    ).drop_nulls()
    assert set(steps["rises"]) == {1}
    assert (steps["later"] >= timedelta(hours=1)).all()


def test_some_corrections_move_to_another_day(shop: ShopReport) -> None:
    lines = read(shop.folder, "purchase")
    days = lines.group_by("order_line_id").agg(pl.col("purchased_at").dt.date().n_unique())
    assert (days["purchased_at"] == 2).any()


def test_a_deletion_is_the_last_word_on_an_order_line(shop: ShopReport) -> None:
    lines = read(shop.folder, "purchase").unique().sort("order_line_id", "revision")
    deleted = lines.filter((pl.col("operation") == "delete").any().over("order_line_id"))
    last = deleted.group_by("order_line_id").last()
    assert last.height > 0
    assert set(last["operation"]) == {"delete"}


def test_bad_rows_are_there_to_be_found(shop: ShopReport) -> None:
    views, carts = read(shop.folder, "product_view"), read(shop.folder, "add_to_cart")
    assert views["user_id"].null_count() > 0
    assert (views["dwell_ms"] < 0).any()
    assert (views["viewed_at"] == 0).any()
    assert (views["device"] == "bot").any()
    assert (carts["quantity"] == 0).any()
    assert (read(shop.folder, "search")["query"].str.strip_chars() == "").any()


def test_purchases_follow_a_cart_of_the_same_user_and_product(shop: ShopReport) -> None:
    carts = (
        read(shop.folder, "add_to_cart")
        .group_by("user_id", "product_id")
        .agg(pl.col("added_at").min())
    )
    placed = read(shop.folder, "purchase").filter(
        pl.col("revision") == 0, pl.col("user_id").is_not_null()
    )
    joined = placed.join(carts, on=["user_id", "product_id"], how="left")
    # Carts with a lost user, a wrong clock or a row that never landed are the few exceptions.
    assert joined["added_at"].null_count() < 0.03 * placed.height
    assert (joined["added_at"] <= joined["purchased_at"]).mean() == 1.0


def test_purchases_cost_what_the_product_cost_at_that_time(shop: ShopReport) -> None:
    placed = read(shop.folder, "purchase").filter(pl.col("revision") == 0)
    prices = read(shop.folder, "product_attributes")
    for line in placed.head(50).iter_rows(named=True):
        known = prices.filter(
            pl.col("product_id") == line["product_id"],
            pl.col("valid_from") <= line["purchased_at"],
        )
        assert known.sort("valid_from")["price"][-1] == line["unit_price"]


def test_a_few_products_and_a_few_users_make_most_of_the_views(shop: ShopReport) -> None:
    views = read(shop.folder, "product_view")
    products = views["product_id"].value_counts(sort=True)["count"]
    users = views["user_id"].drop_nulls().value_counts(sort=True)["count"]
    assert products.head(30).sum() > 0.4 * views.height  # a tenth of the products
    assert users.head(60).sum() > 0.4 * views.height  # a tenth of the users


def test_the_evening_is_busier_than_the_night(shop: ShopReport) -> None:
    hours = (
        read(shop.folder, "search")
        .filter(pl.col("searched_at").dt.date() < END)
        .group_by(pl.col("searched_at").dt.hour())
        .len()
    )
    by_hour = dict(hours.iter_rows())
    assert by_hour[19] > 3 * by_hour[2]


def test_vectors_are_of_unit_length_and_trained_twice(shop: ShopReport) -> None:
    vectors = read(shop.folder, "product_vectors")
    assert vectors.schema["vector"] == pl.Array(pl.Float32, 64)
    lengths = np.linalg.norm(vectors["vector"].to_numpy(), axis=1)
    assert np.allclose(lengths, 1, atol=0.05)
    assert vectors["published_at"].n_unique() == 2
    trainings = vectors.group_by("product_id").len()["len"]
    assert set(trainings) == {1, 2}


def test_products_of_a_category_have_vectors_near_each_other(shop: ShopReport) -> None:
    categories = read(shop.folder, "product_attributes").unique("product_id", keep="first")
    vectors = read(shop.folder, "product_vectors").filter(
        pl.col("published_at") == pl.col("published_at").max()
    )
    rows = vectors.join(categories.select("product_id", "category"), on="product_id")
    same = rows["category"].to_numpy()[:, None] == rows["category"].to_numpy()[None, :]
    likeness = rows["vector"].to_numpy() @ rows["vector"].to_numpy().T
    assert likeness[same].mean() > 0.5
    assert abs(likeness[~same].mean()) < 0.2


def test_prices_change_over_time(shop: ShopReport) -> None:
    prices = read(shop.folder, "product_attributes")
    assert (prices.group_by("product_id").agg(pl.col("price").n_unique())["price"] > 1).any()
    assert prices.select("product_id", "valid_from").is_unique().all()


def test_progress_is_told_for_every_day(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    generate_shop(
        tmp_path,
        days=3,
        end=END,
        events=1_000,
        users=50,
        products=40,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_generating_again_replaces_what_was_generated_before(tmp_path: Path) -> None:
    generate_shop(tmp_path, days=3, end=END, events=1_000, users=50, products=40)
    generate_shop(tmp_path, days=1, end=END, events=1_000, users=50, products=40)
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["day=2026-10-07"]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="was not generated") as raised:
        generate_shop(tmp_path, days=1, end=END, events=1_000, users=50, products=40)
    assert "thesis.txt" in str(raised.value)
    assert MARKER in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written_is_an_error_with_its_place(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be written") as raised:
        generate_shop(blocked / "shop", days=1, end=END, events=1_000, users=50, products=40)
    assert str(blocked) in str(raised.value)
