"""The viewer's interface: what it answers, and what it refuses."""

import json

import pytest

from tests.view.conftest import TOKEN, scored_rows, write_parquet

CORRECT = "component:cor'rect\""


def numbers(page):
    """Return the numbers of the rows of a page."""
    return [row["row"] for row in page["rows"]]


def test_rows_come_in_pages_in_the_order_of_the_file(scored):
    """A page holds the rows that were asked for, and says how many there are."""
    page = scored("0/rows", offset=4, limit=3)
    assert (page["total"], numbers(page)) == (12, [4, 5, 6])
    assert page["rows"][0]["prompt"] == "What is 1 + 1?"


@pytest.mark.parametrize(
    ("sort", "first"),
    [("-component:length", [11, 10]), ("component:length", [0, 1]), ("-reward", [0, 8]), ("field:answer", [0, 1])],
)
def test_rows_are_sorted_by_any_column(scored, sort, first):
    """Rows are sorted both ways; equal ones keep the order of the file, and missing values come last."""
    assert numbers(scored("0/rows", sort=sort, limit=2)) == first


def test_missing_values_come_last_in_both_orders(scored):
    """An unscored row is neither the best nor the worst."""
    for sort in ("reward", "-reward"):
        assert [row["reward"] for row in scored("0/rows", sort=sort)["rows"][-3:]] == [None] * 3


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([[CORRECT, ">=", 1]], [0, 8]),
        ([[CORRECT, "missing"]], [2, 6, 10]),
        ([["status:cor'rect\"", "=", "unscored (infra)"]], [2, 6, 10]),
        ([["group", "=", "g1"], ["component:length", "<", 6]], [4, 5]),
        ([["field:answer", "contains", "4"]], [8, 9, 10, 11]),
        ([["reward", "!=", 0]], [0, 2, 6, 8, 10]),
        ([["reward", "present"], ["reward", ">", 0.5]], [0, 8]),
    ],
)
def test_rows_are_filtered(scored, filters, found):
    """Filters of numbers, texts, statuses and missing values hold together; the total counts what passes."""
    page = scored("0/rows", f=[json.dumps(item) for item in filters])
    assert (numbers(page), page["total"]) == (found, len(found))


@pytest.mark.parametrize(
    ("text", "count"), [("i THINK it is 3", 4), ("service was down", 3), ("what is 2", 4), ("%", 0), ("it's 'so' 1", 3)]
)
def test_the_search_finds_plain_text_in_prompts_completions_and_reasons(scored, text, count):
    """Upper and lower case are the same, and no character is special."""
    assert scored("0/rows", q=text)["total"] == count


@pytest.mark.parametrize("text", ["'; DROP TABLE rows_0; --", '") OR 1=1 --', "\x00", "?" * 50, "$1", "\\"])
def test_what_a_request_says_never_becomes_sql(scored, text):
    """Values are bound and columns looked up, whatever they hold."""
    assert scored("0/rows", q=text)["total"] == 0
    assert scored("0/rows", f=json.dumps(["group", "=", text]))["total"] == 0
    assert "there is no column" in scored("0/rows", 400, f=json.dumps([text, "=", 1]))["error"]
    assert "there is no column" in scored("0/rows", 400, sort=text)["error"]
    assert scored("0/rows")["total"] == 12


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"f": "nonsense"}, "JSON list"),
        ({"f": '["reward", "~", 1]'}, "operators"),
        ({"f": '["reward", "<", "much"]'}, "is a number"),
        ({"offset": "-1"}, "whole number"),
        ({"limit": "9" * 30}, "whole number"),
    ],
)
def test_bad_requests_are_refused_with_what_is_wrong(scored, parameters, message):
    """A wrong request gets an error that says what to change."""
    assert message in scored("0/rows", 400, **parameters)["error"]


def test_a_row_shows_what_was_extracted(scored):
    """The extracted answer is a piece of its own, with the component that extracted it."""
    row = scored("0/row/0")
    pieces = row["completion"][0]["pieces"]
    assert {"text": "0", "components": ["cor'rect\""]} in pieces
    assert "".join(piece["text"] for piece in pieces) == "I think it is 0. It's 'so' 0"
    assert row["fields"]["answer"] == "0"
    assert "there is no row 100" in scored("0/row/99", 400)["error"]


def test_groups_tell_the_spread_of_their_rewards(scored):
    """A group has its rows, its scored rows, and mean, spread, lowest and highest reward."""
    found = scored("0/groups", sort="-mean", limit=1)
    assert found["total"] == 3
    group = found["groups"][0]
    assert (group["key"], group["rows"], group["scored"], group["min"], group["max"]) == ("g0", 4, 3, 0, 1)
    assert group["mean"] == pytest.approx(1 / 3)


def test_the_summary_describes_the_rows_that_pass_the_filters(scored):
    """Histogram and statuses count the chosen rows only."""
    found = scored("0/summary", f=json.dumps(["group", "=", "g0"]))
    reward = next(one for one in found["numbers"] if one["id"] == "reward")
    assert reward["bins"] == [{"from": 0, "to": 0, "rows": 2}, {"from": 1, "to": 1, "rows": 1}]
    assert found["statuses"]["cor'rect\""] == {"scored": 3, "unscored (infra)": 1}


def test_a_histogram_of_many_values_counts_every_row(tmp_path, opened):
    """The lowest and the highest value are in the first and last of 20 bins."""
    ask = opened(write_parquet(tmp_path / "s.parquet", scored_rows(400)))
    length = next(one for one in ask("0/summary")["numbers"] if one["id"] == "component:length")
    assert len(length["bins"]) == 20
    assert sum(one["rows"] for one in length["bins"]) == 400
    assert {one["rows"] for one in length["bins"]} == {20}


def test_two_files_are_compared_by_prompt(tmp_path, opened):
    """Shared prompts are listed by the change of their mean reward."""
    first = write_parquet(tmp_path / "a.parquet", scored_rows())
    rows = scored_rows(better=0.5)
    rows[0]["reward"] = 3.0
    ask = opened(first, write_parquet(tmp_path / "b.parquet", rows))
    found = ask("compare/0/1")
    assert found["total"] == 3
    assert found["prompts"][0]["prompt"] == "What is 0 + 0?"
    assert found["prompts"][0]["difference"] == pytest.approx((3.0 + 0.5 + 0.5 - 1) / 3)
    assert ask("1/rows", f=json.dumps(["prompt_key", "=", found["prompts"][0]["key"]]))["total"] == 4


def test_only_the_token_opens_the_viewer(scored):
    """Without the token nothing is answered, not even the page."""
    client = scored.client
    for path in ("/", "/api/state", f"/{TOKEN}x/api/state", f"/{TOKEN[:-1]}/api/state", "/wrong/"):
        assert client.get(path).status_code == 403
    assert client.get(f"/{TOKEN}/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8078", "127.0.0.1.evil.example", "", "[::2]:8078"])
def test_requests_under_another_name_are_refused(scored, host):
    """A page of another site that points its name at this machine gets nothing."""
    assert scored.client.get(f"/{TOKEN}/api/state", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8078", "localhost:1", "[::1]:8078", "localhost"])
def test_this_machines_names_are_answered(scored, host):
    """Tunnels forward other ports, so only the name counts."""
    assert scored.client.get(f"/{TOKEN}/api/state", headers={"host": host}).status_code == 200


def test_nothing_can_be_written(scored):
    """Methods that could change something are refused."""
    assert scored.client.post(f"/{TOKEN}/api/state").status_code == 405


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "nothing.js", "/etc/passwd", "__init__.py"]
)
def test_only_the_built_files_of_the_page_are_served(scored, name):
    """No path leads out of the folder of the page."""
    assert scored.client.get(f"/{TOKEN}/{name}").status_code in {403, 404}


def test_the_page_may_load_from_the_viewer_only(scored):
    """The content security policy forbids scripts of others and any other address."""
    headers = scored.client.get(f"/{TOKEN}/").headers
    assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


def test_the_database_opens_no_other_file(scored, tmp_path):
    """Once files are open, the connection reads no other one, so that no query can."""
    from rewardkit.errors import DataError

    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="disabled by configuration"):
        scored.sources.database.ask("SELECT * FROM read_csv(?)", [str(tmp_path / "secret.csv")])
