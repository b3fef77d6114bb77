"""Conversion of what a plant has into the one table that everything else reads: a time column and one column per sensor.

Long historian exports, database queries, sound and vibration recordings, MATLAB files and TSB-AD's form come in; one frame goes out.
Whatever is wrong in the source is an error that names it; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from anomaly.atomic import replacing
from anomaly.data.database import query_chunks
from anomaly.data.spreadsheet import write_csv
from anomaly.data.tables.dialect.find import find_dialect, find_marks
from anomaly.data.tables.dialect.formats import find_time
from anomaly.data.tables.dialect.load import RawTable, load
from anomaly.data.tables.dialect.times import read_times, time_divisor
from anomaly.data.tables.reader import ReadReport, column_numbers
from anomaly.errors import DataError
from anomaly.schema import Dialect


@dataclass(frozen=True)
class Conversion:
    """What to make of a source on its way to a table; what is not given is not done."""

    query: str = ""  # SQL, when the source is a database
    time: str = ""  # the time column; found when not given
    long: tuple[str, str] | None = None  # the columns that hold a reading's sensor and its value
    zone: str = ""  # the times are local ones of this zone (IANA name)
    counters: tuple[str, ...] = ()
    period_s: float | None = None
    rate: float | None = None  # Hz, for MATLAB files
    frame_s: float = 0.5
    variables: tuple[str, ...] = ()


LOWEST_HZ = 10.0  # the lowest edge of the bands of a waveform
BANDS = 12  # logarithmic bands a channel, up to half the sampling rate
LABEL = "label"


def long_to_wide(frame: pd.DataFrame, time: str, sensor: str, value: str, where: str) -> pd.DataFrame:
    """Long form (one row per reading: time, sensor, value) -> wide form (one row per time, one column per sensor).

    Of two readings of one sensor at one time the last is kept. Raises DataError for a column that is missing.

    >>> long = pd.DataFrame({"time": [1, 1, 2], "tag": ["flow", "heat", "flow"], "value": [3.0, 40.0, 4.0]})
    >>> long_to_wide(long, "time", "tag", "value", "export.csv")
       time  flow  heat
    0     1   3.0  40.0
    1     2   4.0   NaN
    """
    missing = [name for name in (time, sensor, value) if name not in frame]
    if missing:
        raise DataError(f"{where}: columns {missing} are missing; it has {list(frame)}")
    last = frame.drop_duplicates([time, sensor], keep="last")
    wide = last.pivot(index=time, columns=sensor, values=value).reset_index()
    wide.columns.name = None
    return wide


def read_wav(path: Path) -> tuple[NDArray[np.float64], float]:
    """Samples (n, channels) in -1..1 and the sampling rate in Hz of a WAV file (PCM or float)."""
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(path)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable WAV file ({error})") from error
    scale = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)
    values = samples.astype(np.float64) - (128.0 if samples.dtype == np.uint8 else 0.0)
    return values.reshape(len(values), -1) / (127.0 if samples.dtype == np.uint8 else scale), float(rate)


def read_mat(path: Path, names: tuple[str, ...] = ()) -> tuple[NDArray[np.float64], list[str]]:
    """Signals (n, channels) of a MATLAB file (before 7.3) with their names: those asked for, or all vectors of the longest length."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(path, variable_names=names or None)
    except (ValueError, OSError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path}: not a readable MATLAB file ({error}); save it with -v7 or earlier") from error
    vectors = {k: np.asarray(v).ravel().astype(np.float64) for k, v in content.items() if _is_signal(v)}
    missing = [name for name in names if name not in vectors]
    if missing or not vectors:
        raise DataError(f"{path}: no numeric vectors {missing or ''}; it has {sorted(k for k in content if not k.startswith('_'))}")
    longest = max(len(v) for v in vectors.values())
    chosen = [k for k in (names or sorted(vectors)) if len(vectors[k]) == longest]
    return np.column_stack([vectors[k] for k in chosen]), chosen


def _is_signal(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "fiu" and array.size >= 64 and max(array.shape) == array.size


def waveform_table(samples: NDArray[np.float64], rate: float, frame_s: float, names: list[str], where: str) -> pd.DataFrame:
    """Fast signals (n, channels) -> one row per frame of `frame_s` seconds, with features that show wear of bearings and gears.

    A channel gives the logarithm of its RMS, crest factor and kurtosis, of the energy in 12 logarithmic bands, and of the envelope's energy
    in the same bands (the Hilbert envelope of the signal above a tenth of the sampling rate, where bearings ring: Randall and Antoni 2011,
    doi:10.1016/j.ymssp.2010.07.017). Times count from 0 s. Raises DataError for signals shorter than eight frames.
    """
    from scipy.signal import butter, hilbert, sosfilt

    length = int(frame_s * rate)
    count = len(samples) // max(length, 1)
    if length < 2 * LOWEST_HZ or count < 8:
        raise DataError(f"{where}: {len(samples)} samples at {rate:g} Hz are {count} frames of {frame_s:g} s; at least 8 are needed")
    edges = np.geomspace(LOWEST_HZ, rate / 2, BANDS + 1)
    frequency = np.fft.rfftfreq(length, 1 / rate)
    band = np.clip(np.searchsorted(edges, frequency, side="right") - 1, 0, BANDS - 1)
    window = np.hanning(length)
    columns: dict[str, NDArray[Any]] = {"time": np.arange(count) * frame_s}
    high = butter(4, rate / 10, "highpass", fs=rate, output="sos")
    for name, signal in zip(names, samples.T, strict=True):
        frames = signal[: count * length].reshape(count, length)
        frames = frames - frames.mean(axis=1, keepdims=True)
        rms = np.sqrt(np.square(frames).mean(axis=1)) + 1e-12
        columns[f"{name}_rms"] = np.log(rms)
        columns[f"{name}_crest"] = np.log(np.abs(frames).max(axis=1) / rms + 1e-12)
        columns[f"{name}_kurtosis"] = np.log((frames**4).mean(axis=1) / rms**4 + 1e-12)
        envelope = np.abs(hilbert(sosfilt(high, signal)))[: count * length].reshape(count, length)
        for kind, part in (("band", frames), ("envelope", envelope - envelope.mean(axis=1, keepdims=True))):
            power = np.square(np.abs(np.fft.rfft(part * window, axis=1)))
            for index in np.unique(band):
                energy = power[:, (band == index) & (frequency >= LOWEST_HZ)].sum(axis=1)
                columns[f"{name}_{kind}_{edges[index]:.0f}_hz"] = np.log(energy + 1e-12)
    return pd.DataFrame(columns)


def tsb_ad_parts(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(normal rows to learn from, all rows with a label) of a file in TSB-AD's form: last column Label, `tr_N` in the name."""
    found = re.search(r"_tr_(\d+)_", path.name)
    if found is None:
        raise DataError(f"{path}: no `_tr_N_` in the name, which says how many rows TSB-AD learns from")
    frame = pd.read_csv(path)
    if frame.columns[-1] != "Label":
        raise DataError(f"{path}: the last column is {frame.columns[-1]!r}, TSB-AD's is 'Label'")
    frame = frame.rename(columns={"Label": LABEL})
    frame.insert(0, "time", np.arange(len(frame), dtype=np.float64))  # TSB-AD gives no times
    return frame.head(int(found.group(1))).drop(columns=LABEL), frame


def counters_to_rates(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> pd.DataFrame:
    """Counters that only grow -> growth since the row before. A fall is a reset of the counter: its row is missing.

    >>> counters_to_rates(pd.DataFrame({"parts": [10, 12, 15, 1]}), ("parts",), "export.csv")["parts"].tolist()
    [nan, 2.0, 3.0, nan]
    """
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(f"{where}: counters {missing} are not among its columns {list(frame)}")
    grown = frame[list(columns)].apply(pd.to_numeric, errors="coerce").diff()
    return frame.assign(**{name: grown[name].where(grown[name] >= 0) for name in columns})


def resampled(frame: pd.DataFrame, time: str, period_s: float) -> pd.DataFrame:
    """Readings at uneven times -> the mean over each period; a period without a reading is missing, never filled.

    Rows whose time cannot be read are left out.
    """
    seconds = _seconds(frame[time])
    frame, stamps = frame[~np.isnan(seconds)], pd.to_datetime(seconds[~np.isnan(seconds)], unit="s", utc=True).round("us")
    values = frame.drop(columns=time).apply(pd.to_numeric, errors="coerce").set_axis(pd.DatetimeIndex(stamps), axis=0)
    labels = [name for name in values if str(name).lower() in (LABEL, "anomaly")]
    bins = values.resample(pd.Timedelta(seconds=period_s))
    result = bins.mean()
    for name in labels:
        result[name] = bins[name].max()
    table: pd.DataFrame = result.rename_axis(time).reset_index()
    return table


def _seconds(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Seconds since 1970 (n,) of a time column as `plain_frame` makes it."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return np.where(column.isna(), np.nan, column.dt.tz_convert("UTC").dt.as_unit("us").astype("int64") / 1e6)
    numbers = column.to_numpy(dtype=np.float64)
    return numbers / time_divisor(float(np.nanmedian(np.abs(numbers))))


def plain_frame(raw: RawTable, dialect: Dialect, long: tuple[str, str] | None = None) -> pd.DataFrame:
    """A table as it is, with plain numbers and times: text of dates becomes UTC, numbers of any dialect float64, other text stays.

    A date and a time of day in two columns become one, called as the first. `long`: the columns of sensor, which stays text, and of value,
    which must be numbers. Raises DataError where more than 5 % of a column that holds
    numbers cannot be read, or a time does not exist in the dialect's zone.
    """
    times = read_times([raw.columns[name] for name in dialect.time], dialect)
    typed = raw.columns[dialect.time[0]]
    if dialect.zone and np.isnan(times).any():
        at = int(np.flatnonzero(np.isnan(times))[0])
        raise DataError(
            f"{raw.path}: column {dialect.time[0]!r} is not local time of {dialect.zone}: {str(typed[at].as_py())!r} in line "
            f"{raw.lines[at]} does not exist there; correct --zone"
        )
    columns: dict[str, Any] = {}
    for name, column in raw.columns.items():
        if name == dialect.time[0]:
            numeric = dialect.time_format and dialect.time_format[0] in ("s", "ms", "us", "ns")
            columns[name] = (
                column_numbers(raw, name, dialect, ReadReport()) if numeric else pd.to_datetime(times, unit="s", utc=True).round("us")
            )
        elif long is not None and name == long[0]:
            columns[name] = column.to_pandas()
        elif name not in dialect.time:
            numbers = column_numbers(raw, name, dialect, ReadReport())
            if numbers is None and long is not None and name == long[1]:
                raise DataError(f"{raw.path}: column {name!r} holds {str(column.drop_null()[0])!r} and the like, which are no numbers")
            columns[name] = column.to_pandas() if numbers is None else numbers
    return pd.DataFrame(columns)


def read_frame(path: Path, how: Conversion) -> tuple[pd.DataFrame, str]:
    """(frame, its time column) of a CSV, Excel or Parquet file by the dialect that is found on it. Raises DataError naming the file."""
    dialect = Dialect(zone=how.zone)
    try:
        dialect = find_dialect([path], dialect.model_copy(update={"time": (how.time,)}) if how.time else dialect)
    except DataError as error:
        if "no time column" in str(error):
            raise DataError(f"{error}; or name the time with --time") from error
        raise
    return plain_frame(load(path, dialect), dialect, how.long), dialect.time[0]


def query_frame(frame: pd.DataFrame, how: Conversion, where: str) -> tuple[pd.DataFrame, str]:
    """The rows of a query, (frame, time column) as `read_frame` gives them. Raises DataError naming the source."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    raw = RawTable(Path(where), columns, np.arange(len(frame), dtype=np.int64) + 1)
    dialect = Dialect(zone=how.zone, time=(how.time,) if how.time else ())
    time, forms = find_time([raw], dialect)
    dialect = dialect.model_copy(update={"time": time, "time_format": forms})
    decimal, thousands = find_marks([raw], dialect)
    return plain_frame(raw, dialect.model_copy(update={"decimal": decimal, "thousands": thousands}), how.long), time[0]


def convert(source: str, out: Path, how: Conversion) -> dict[Path, int]:
    """Write a source as a table, CSV or Parquet by the name of `out`; returns the rows of each file written.

    A TSB-AD file becomes a folder `out` of train.parquet and test.parquet, as `anomaly fit` and `anomaly evaluate` take it.
    """
    path = Path(source)
    if not how.query and re.search(r"_tr_\d+_.*1st_\d+\.csv$", path.name):
        train, test = tsb_ad_parts(path)
        return {out / "train.parquet": _write(train, out / "train.parquet"), out / "test.parquet": _write(test, out / "test.parquet")}
    frame, time = _source_frame(source, path, how)
    if how.long is not None:
        frame = long_to_wide(frame, time, *how.long, source)
    if how.counters:
        frame = counters_to_rates(frame, how.counters, source)
    if how.period_s is not None:
        frame = resampled(frame, time, how.period_s)
    return {out: _write(frame, out)}


def _source_frame(source: str, path: Path, how: Conversion) -> tuple[pd.DataFrame, str]:
    """The frame, and the name of its time column."""
    if how.query:
        return query_frame(pd.concat(query_chunks(source, how.query), ignore_index=True), how, source)
    if not path.is_file():
        raise DataError(f"{source}: no such file; give a table, a WAV or MATLAB file, or a database URL with --query")
    if path.suffix.lower() == ".wav":
        samples, rate = read_wav(path)
        names = [path.stem] if samples.shape[1] == 1 else [f"{path.stem}_{i + 1}" for i in range(samples.shape[1])]
        return waveform_table(samples, rate, how.frame_s, names, source), "time"
    if path.suffix.lower() == ".mat":
        if how.rate is None:
            raise DataError(f"{source}: a MATLAB file does not tell its sampling rate; give it with --rate")
        samples, names = read_mat(path, how.variables)
        return waveform_table(samples, how.rate, how.frame_s, names, source), "time"
    return read_frame(path, how)


def _write(frame: pd.DataFrame, out: Path) -> int:
    if out.suffix.lower() not in (".csv", ".parquet", ".pq"):
        raise DataError(f"{out}: the table's name must end in .csv or .parquet")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".csv":
        write_csv(frame, out)
    else:
        with replacing(out) as part:
            frame.to_parquet(part, index=False)
    return len(frame)
