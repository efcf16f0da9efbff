"""wssis.data.csv_tables: text tables with a header."""

from __future__ import annotations

import pytest

from wssis.data.csv_tables import read_table
from wssis.errors import InputError


def table(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        " ,X,Y\r\n1,10.5,20\r\n\r\n",
        "\ufeff ;X;Y\n1;10,5;20\n",
        ' \tX\tY\n1\t"10,5"\t20,0\n',
        " \tX\tY\n1\t10.5\t20",
    ],
)
def test_separators_and_decimal_commas(text, tmp_path):
    columns, (row,) = read_table(table(tmp_path, text), ("x", "y"))
    assert columns == ["", "x", "y"]
    assert (row.number("x"), row.number("y"), row.record) == (10.5, 20.0, "line 2")


def numbers(path):
    return [(row.number("x"), row.number("y")) for row in read_table(path, ("x", "y"))[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns x, y, found no x, y"),
        ("x,z\n1,2\n", "line 1: expected the columns x, y, found no y"),
        ("x,y,x\n1,2,3\n", "expected a column once, found 'x'"),
        ("x,y\n1,5,2,5\n", "line 2: expected 2 cells, found 4. Write numbers with a point"),
        ("x;y\n1.000,5;2\n", "line 2: expected 'x' as a number, found '1.000,5'"),
        ("x,y\nnan,2\n", "line 2: expected 'x' as a number, found 'nan'"),
        ("x,y\n1_0,2\n", "expected 'x' as a number"),
        ("x,y\n1e400,2\n", "expected 'x' as a number"),
        ("x,y\n,2\n", "expected 'x' as a number, found ''"),
        (b"x,y\n\xff,2\n", "UTF-8"),
        ("x,y\n1,2\n".encode("utf-16"), "UTF-8"),
        ('x,y\n"' + "1" * 200_000 + '",2\n', "expected CSV"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(text, message, tmp_path):
    path = table(tmp_path, text)
    with pytest.raises(InputError) as raised:
        numbers(path)
    assert message in str(raised.value)
    assert "t.csv" in str(raised.value)
