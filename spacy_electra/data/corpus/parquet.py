"""Read the column "text" of Parquet files, row by row, in bounded memory.

The library unpacks a column page by page, and repeats a dictionary value as often as rows refer to it. So the sizes in
the headers of all pages are read first, and the number of rows read at once follows from the largest.
"""

from collections.abc import Iterator
from typing import Any

from spacy_electra.data.corpus.limits import MB
from spacy_electra.data.corpus.page_headers import read_page_sizes
from spacy_electra.data.corpus.sources import TextSource

COLUMN = "text"

_MOST_ROWS = 1_000  # held at once
_PAGE = 4  # documents of the largest size that a page may hold; what rows held at once may take, too
_BUFFER = 1 << 20  # bytes of a column that are read at once


def read_column(source: TextSource) -> Iterator[Any]:
    """The values of the column "text": strings, and None or another type for a row without text.

    Raises ValueError for a file that is damaged, has no such column, or needs too much memory; ImportError without
    pyarrow.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(
            f"reading {source.name} needs the package pyarrow: pip install pyarrow, or convert it to .jsonl"
        ) from error
    try:
        file = parquet.ParquetFile(source.stream, buffer_size=_BUFFER, pre_buffer=False)
        _check_column(source, file, arrow)
        for group in range(file.num_row_groups):
            rows = _rows_at_once(source, file.metadata.row_group(group))
            for batch in file.iter_batches(rows, row_groups=[group], columns=[COLUMN], use_threads=False):
                for value in batch.column(0):
                    yield value.as_py()
    except arrow.ArrowMemoryError:
        raise
    except (arrow.ArrowException, UnicodeDecodeError, EOFError) as error:
        raise ValueError(
            f"{source.name} is damaged or no Parquet file ({error}): download or copy it again."
        ) from error


def _check_column(source: TextSource, file: Any, arrow: Any) -> None:
    schema = file.schema_arrow
    if COLUMN not in schema.names:
        names = ", ".join(schema.names[:5])
        raise ValueError(f'{source.name} has the columns {names}, expected one named "text": rename it.')
    kind = schema.field(COLUMN).type
    if arrow.types.is_nested(kind):  # one row can be without end
        raise ValueError(f'the column "text" of {source.name} holds {kind}, expected strings: give one text a row.')


def _rows_at_once(source: TextSource, group: Any) -> int:
    """How many rows of a group memory can hold. Raises ValueError where a page alone is too large."""
    columns = (group.column(number) for number in range(group.num_columns))
    (column,) = (column for column in columns if column.path_in_schema == COLUMN)
    most = _PAGE * source.limits.document
    largest = max(read_page_sizes(source.stream, column), default=0)
    if largest > most:
        raise ValueError(
            f"{source.name} has a page of {largest / MB:,.0f} MB, at most {most / MB:,.0f} may be unpacked at once: "
            f"write it with smaller pages, or allow larger documents than {source.limits.document_mb:g} MB with "
            f"--max-document-mb."
        )
    return max(1, min(_MOST_ROWS, most // max(largest, 1)))
