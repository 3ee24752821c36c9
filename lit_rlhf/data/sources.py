"""Where rows come from: files, folders and hub data sets, read by `datasets` without a word of its own."""

from __future__ import annotations

import contextlib
import difflib
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_rlhf.data.columns import kind, shortened
from lit_rlhf.data.records import RowError
from lit_rlhf.errors import InputError

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_READERS = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "plain",
}
_HEAD = 1000
"""Rows of JSON lines whose keys are the columns."""


@dataclass(frozen=True)
class Source:
    """One place where rows come from.

    Args:
        path: a file (json, jsonl, csv, tsv, parquet, txt, also compressed), a pattern of files, a folder that
            `datasets` saved, or a hub data set as `owner/name`, `owner/name/folder` or `owner/name/folder#split`.
        subset: configuration of a hub data set.
        split: of a hub data set; `train` unless the path says another.
        revision: of a hub data set.
        weight: share of this source in a mixture, in proportion to the others'; all rows once where no source has one.
        rows: only the first so many.
        columns: as `Files.columns`, for this source alone.
    """

    path: str
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    weight: float | None = None
    rows: int | None = None
    columns: dict[str, str | None] | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not self.weight > 0:
            raise InputError(f"data: {self.path}: weight={self.weight}, expected more than 0")
        if self.rows is not None and self.rows < 1:
            raise InputError(f"data: {self.path}: rows={self.rows}, expected 1 or more")


@dataclass(frozen=True)
class Table:
    """Rows in their order, as `datasets` holds them."""

    name: str
    data: Any
    """A `Dataset` or `IterableDataset`."""
    lines: bool
    """Whether a row is a line of JSON in the column `text`."""

    def place(self, index: int) -> str:
        """file:row, counted from 1; of JSON lines it is the line."""
        return f"{self.name}:{index + 1}"

    def row(self, stored: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row as it was written; None for a blank line.

        Raises:
            RowError: a line is no JSON object.
        """
        return _parsed(stored["text"]) if self.lines else dict(stored)

    def columns(self) -> list[str]:
        """The names of the columns, in order; of JSON lines, the keys of the first thousand rows."""
        if not self.lines and self.data.column_names:
            return list(self.data.column_names)
        names: dict[str, None] = {}
        for stored in self.data.take(_HEAD):
            with contextlib.suppress(RowError):
                names |= dict.fromkeys(self.row(stored) or {})
        return list(names)


def tables(source: Source, cache_dir: str | None = None, streaming: bool = False) -> list[Table]:
    """The tables of a source, one for each of its files, in order of name.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    files = _files(source.path)
    if files and (source.subset or source.split or source.revision):
        raise InputError(f"data: {source.path} is a file; subset, split and revision are for hub data sets")
    with quiet():
        found = [_table_of_file(path, cache_dir, streaming) for path in files] or [
            _table_of_hub(source, cache_dir, streaming)
        ]
    return found if source.rows is None else _first(found, source.rows)


def _files(path: str) -> list[str]:
    """The files that a path means; none where it is no path of files."""
    expanded = os.path.expanduser(path)
    if any(mark in expanded for mark in "*?"):
        if found := sorted(glob.glob(expanded)):
            return found
        raise InputError(f"data: no file matches {path}")
    if os.path.isfile(expanded):
        return [expanded]
    if _reader(expanded) and "#" not in path or path.startswith((".", "/", "~")) and not os.path.isdir(expanded):
        folder = Path(expanded).parent
        near = difflib.get_close_matches(Path(expanded).name, os.listdir(folder) if folder.is_dir() else [], n=1)
        hint = (
            f" (did you mean {folder / near[0]}?)"
            if near
            else ""
            if folder.is_dir()
            else f": there is no folder {folder}"
        )
        raise InputError(f"data: {path}: no such file{hint}")
    return []


def _reader(path: str) -> str | None:
    return _READERS.get(_suffix(path))


def _suffix(path: str) -> str:
    stem, last = os.path.splitext(path)
    return os.path.splitext(stem)[1] if last in _COMPRESSED else last


def _table_of_file(path: str, cache_dir: str | None, streaming: bool) -> Table:
    reader, name = _reader(path), os.path.basename(path)
    if reader is None:
        raise InputError(
            f"data: {path}: unknown kind of file; expected {', '.join(_READERS)}, also with {', '.join(_COMPRESSED)}"
        )
    if os.path.getsize(path) == 0:
        raise InputError(f"data: {path}: the file is empty, expected rows")
    if reader == "json" and (rows := _whole_json(path)) is not None:
        return _in_memory(name, rows, streaming)
    csv = _as_text(path) if reader == "csv" else {}
    builder = reader if reader in ("csv", "parquet") else "text"
    given = {"data_files": [path], "split": "train", "cache_dir": cache_dir, "streaming": streaming}
    return Table(name, _readable(path, builder, **given, **csv), lines=reader in ("lines", "json"))


def _as_text(path: str) -> dict[str, Any]:
    """How a table of cells is read: every cell is text, so that NA is a word and 007 keeps its zeros."""
    import csv

    import fsspec
    from datasets import Features, Value

    separator = "\t" if _suffix(path) == ".tsv" else ","
    with fsspec.open(path, "rt", encoding="utf-8", compression="infer", newline="") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    if not header:
        raise InputError(f"data: {path}: empty, expected a first line with the names of the columns")
    return {"sep": separator, "keep_default_na": False, "features": Features(dict.fromkeys(header, Value("string")))}


def _table_of_hub(source: Source, cache_dir: str | None, streaming: bool) -> Table:
    import datasets

    if os.path.isdir(source.path) and (Path(source.path) / "state.json").exists():
        return Table(source.path, datasets.load_from_disk(source.path), lines=False)
    path, _, split = source.path.partition("#")
    owner, name, folder = ([*path.split("/", 2), "", ""])[:3] if not os.path.isdir(path) else (path, "", "")
    given = {"name": source.subset, "data_dir": folder or None, "revision": source.revision, "cache_dir": cache_dir}
    split = source.split or split or "train"
    data = _readable(f"{owner}/{name}" if name else owner, split=split, streaming=streaming, **given)
    return Table(f"{path}#{split}", data, lines=False)


def _readable(path: str, builder: str | None = None, **given: Any) -> Any:
    """`datasets.load_dataset`, with its errors in one sentence."""
    import datasets

    try:
        return datasets.load_dataset(builder or path, **given)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeDecodeError):
            raise InputError(f"data: {path}: not UTF-8: {cause}. Convert the file, for example with iconv") from error
        first = (str(cause).strip().splitlines() or [repr(cause)])[0]
        what = "cannot be read" if builder else "neither a file nor a hub data set that can be read"
        raise InputError(f"data: {path}: {what}: {first}") from error


def _whole_json(path: str) -> list[Any] | None:
    """The rows of a file that is one JSON value, a list or an object with one list; None where each line is a value."""
    import fsspec

    with fsspec.open(path, "rt", encoding="utf-8", compression="infer") as file:
        opening = file.readline()
        with contextlib.suppress(ValueError):
            if isinstance(json.loads(opening), dict):
                return None
        try:
            value = json.loads(opening + file.read())
        except ValueError as error:
            raise InputError(f"data: {path}: no JSON: {error}") from error
    lists = [part for part in value.values() if isinstance(part, list)] if isinstance(value, dict) else [value]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise InputError(
            f"data: {path}: found {kind(value)}, expected a list of rows, or an object with one list of rows in it"
        )
    return lists[0]


def _in_memory(name: str, rows: list[Any], streaming: bool) -> Table:
    import datasets

    data = datasets.Dataset.from_dict({"text": [json.dumps(row, ensure_ascii=False) for row in rows]})
    return Table(name, data.to_iterable_dataset() if streaming else data, lines=True)


def _parsed(line: str) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RowError(f"no JSON: {error}; found {shortened(line.strip())!r}") from None
    if not isinstance(row, dict):
        raise RowError(f"found {kind(row)}, expected an object with the columns as keys")
    return row


def _first(found: Sequence[Table], rows: int) -> list[Table]:
    kept: list[Table] = []
    if len(found) > 1 and not hasattr(found[0].data, "num_rows"):
        raise InputError("data: rows counts the rows of one streamed file; name the files as sources of their own")
    for table in found:
        if rows > 0:
            kept.append(Table(table.name, table.data.take(rows), table.lines))
            rows -= table.data.num_rows if hasattr(table.data, "num_rows") else 0
    return kept


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`datasets` without progress bars, advice and the connection by which it counts downloads."""
    import datasets

    bars, level, counts = (
        datasets.are_progress_bars_disabled(),
        datasets.logging.get_verbosity(),
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
    )
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
