from support.column_table import column_table, split_page


def test_the_page_has_the_columns_that_the_stages_declare() -> None:
    assert split_page()[1] == column_table(), "run: python tests/support/column_table.py"
