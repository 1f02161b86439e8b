"""Tables: written piece by piece, published whole, read back as they were."""

import numpy as np
import pandas as pd
import pytest

from bigbia.errors import InputError, ParameterError, StorageError
from bigbia.io.tables import GROUP, read_table, write_table


def frames(count=3, rows=5):
    rng = np.random.default_rng(0)
    for i in range(count):
        yield pd.DataFrame(
            {
                "label": np.arange(i * rows + 1, (i + 1) * rows + 1, dtype="u4"),
                "area": rng.integers(1, 2**53, rows),
                "intensity_mean": rng.random(rows) / 3,
                "channel": ["DAPI"] * rows,
            }
        )


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "tables" / f"nuclei{suffix}"
    write_table(frames(), path, {"units": {"area": "um3"}})
    again = read_table(path)
    expected = pd.concat(list(frames()), ignore_index=True)
    pd.testing.assert_frame_equal(again, expected, check_dtype=suffix == ".parquet")
    assert again.attrs == ({"units": {"area": "um3"}} if suffix == ".parquet" else {})
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_empty_table_keeps_its_columns(tmp_path, suffix):
    empty = next(frames()).iloc[:0]
    write_table([empty], tmp_path / f"t{suffix}")
    assert list(read_table(tmp_path / f"t{suffix}").columns) == list(empty.columns)
    write_table([empty, *frames(1)], tmp_path / f"u{suffix}")
    assert len(read_table(tmp_path / f"u{suffix}")) == 5


def test_small_pieces_become_large_row_groups(tmp_path):
    from pyarrow import parquet

    write_table(frames(40, GROUP // 8), tmp_path / "t.parquet")
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 5
    assert len(read_table(tmp_path / "t.parquet")) == 40 * (GROUP // 8)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_fails_leaves_nothing_and_keeps_what_was(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"

    def breaking():
        yield from frames(2)
        raise RuntimeError("a block failed")

    with pytest.raises(RuntimeError, match="a block failed"):
        write_table(breaking(), path)
    assert list(tmp_path.iterdir()) == []
    write_table(frames(1), path)
    with pytest.raises(ParameterError, match="part 1 of the table has columns"):
        write_table([*frames(1), pd.DataFrame({"label": [1]})], path)
    assert list(tmp_path.iterdir()) == [path]
    assert len(read_table(path)) == 5


def test_refused_tables(tmp_path):
    with pytest.raises(ParameterError, match=r"t.xlsx: a table is written as .parquet or .csv"):
        write_table(frames(), tmp_path / "t.xlsx")
    with pytest.raises(ParameterError, match="there is no table to write"):
        write_table([], tmp_path / "t.parquet")
    one, two = frames(2)
    with pytest.raises(ParameterError, match="part 1 of the table does not fit the types of the first"):
        write_table([one, two.assign(area=two.area + 0.5)], tmp_path / "t.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_table(frames(), tmp_path / "file/t.csv")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "bad.csv").write_bytes(b"")
    unreadable = "cannot be read as a table"
    cases = {"no.csv": "no such table", "x.xlsx": "is not a table", "bad.parquet": unreadable, "bad.csv": unreadable}
    for name, says in cases.items():
        with pytest.raises(InputError, match=says):
            read_table(tmp_path / name)
