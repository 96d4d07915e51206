"""Result files: whole or untouched, read back equal, and clear about what is wrong with them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from made_results import pairs, result

from testbed.errors import InputError
from testbed.results import SCHEMA, Result
from testbed.results import store as result_store
from testbed.results.store import dump_result, load_result, parse_result, save_result


@pytest.fixture
def made() -> Result:
    return result(pairs(2))


def changed(made: Result, **values: Any) -> str:
    return json.dumps({**json.loads(dump_result(made)), **values})


def test_a_result_is_read_back_as_it_was_written(made: Result, tmp_path: Path) -> None:
    where = save_result(made, tmp_path / "new" / "folder")
    assert where.name == "result.json"
    assert load_result(where) == made
    assert load_result(where.parent) == made


def test_the_file_says_what_it_is_and_has_a_line_for_each_trial(made: Result) -> None:
    text = dump_result(made)
    assert json.loads(text)["format"] == "testbed-result"
    assert json.loads(text)["schema"] == SCHEMA
    assert sum('"variant": "batched"' in line for line in text.splitlines()) == 2


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    made: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = save_result(made, tmp_path)
    before = where.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_result(made.model_copy(update={"seed": 99}), tmp_path)
    assert where.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def message(text: str) -> str:
    with pytest.raises(InputError) as error:
        parse_result(text, file="result.json")
    return str(error.value)


def test_a_newer_schema_is_refused_with_what_to_do(made: Result) -> None:
    assert message(changed(made, schema=SCHEMA + 1)) == (
        f"result.json: a newer version has written this file (got 'schema {SCHEMA + 1}'; "
        f"expected schema {SCHEMA} or older; update this program to read it)"
    )


@pytest.mark.parametrize("schema", [None, "1", 0, True, 1.0])
def test_a_file_without_a_schema_number_is_refused(made: Result, schema: object) -> None:
    assert "the file does not say which schema it has" in message(changed(made, schema=schema))


def test_a_file_that_was_cut_off_is_called_damaged(made: Result) -> None:
    text = dump_result(made)
    cut = text[: text.index('"trials"') + 300]
    assert message(cut).startswith("result.json:")
    assert "the file is damaged" in message(cut)


def test_something_else_is_no_result() -> None:
    assert message("[]") == (
        'result.json: this is no result of a run (expected "format": "testbed-result")'
    )
    assert "this is no result" in message('{"format": "something"}')


def test_an_unknown_or_wrong_value_is_named_by_its_place(made: Result) -> None:
    assert "elapsed_s" in message(changed(made, elapsed_s="long"))
    assert "surplus" in message(changed(made, surplus=1))
    values = json.loads(dump_result(made))
    values["trials"][1]["traffic"]["offered"] = -1
    assert "trials[1].traffic.offered" in message(json.dumps(values))


def test_a_trial_of_an_unknown_variant_is_damage(made: Result) -> None:
    values = json.loads(dump_result(made))
    values["trials"][0]["variant"] = "nobody"
    assert "trial 0 has an unknown variant (got 'nobody'" in message(json.dumps(values))


def test_a_result_without_exactly_one_baseline_is_damage(made: Result) -> None:
    values = json.loads(dump_result(made))
    for variant in values["scenario"]["variants"]:
        variant["baseline"] = False
    assert "expected one baseline" in message(json.dumps(values))


def test_infinite_numbers_are_damage(made: Result) -> None:
    assert "damaged" in message(changed(made).replace('"elapsed_s": 80.0', '"elapsed_s": Infinity'))


def test_deep_nesting_is_no_crash() -> None:
    assert "result.json" in message("[" * 200_000)


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_result(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="there is no such file"):
        load_result(tmp_path)


def test_a_file_of_bytes_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_result(tmp_path)


def test_older_schemas_are_brought_up_to_date_step_by_step(
    made: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_store, "SCHEMA", SCHEMA + 2)
    steps = []

    def update(values: dict[str, Any]) -> dict[str, Any]:
        steps.append(values["schema"])
        return {**values, "schema": values["schema"] + 1}

    monkeypatch.setattr(result_store, "UPDATES", {SCHEMA: update, SCHEMA + 1: update})
    assert parse_result(dump_result(made), file="x").seed == made.seed
    assert steps == [SCHEMA, SCHEMA + 1]


def test_every_released_schema_has_its_update() -> None:
    assert set(result_store.UPDATES) == set(range(1, SCHEMA))
