"""The log of what runs beside the line: text for people, or one JSON object a line. Every line names the line it is about.

Events go to stdout, all else to stderr. Text from outside is escaped here, once: no file name or reason can forge a line of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from anomaly.alarms.events import Event, iso
from anomaly.alarms.wording import zone_in
from anomaly.cli.terminal.console import err, manner, out
from anomaly.data.clock import in_zone
from anomaly.names import masked, one_line


class LogFormat(StrEnum):
    text = "text"
    json = "json"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "bold red"}
JOURNAL = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # sd-daemon(3)


def start_log(form: LogFormat, level: LogLevel, line: str, environment: Mapping[str, str] = os.environ, zone: str = "") -> None:
    """Send the log of this process to the terminal. `line`: the name for what is not about one line, such as delivery.

    `zone`: in which text shows the time of day; JSON is UTC.

    Libraries are heard from warnings on. An error that ends a thread is logged instead of printed.
    """
    handler = TerminalHandler(form, line, journal="JOURNAL_STREAM" in environment, zone=zone)
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, TerminalHandler)] + [handler]
    root.setLevel(logging.WARNING)
    wanted = LogLevel.warning if manner.quiet and level is LogLevel.info else LogLevel.debug if manner.verbose else level
    logging.getLogger("anomaly").setLevel(wanted.value.upper())
    threading.excepthook = _log_thread_error


def _log_thread_error(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        name = found.thread.name if found.thread else "unknown"
        error = (found.exc_type, found.exc_value, found.exc_traceback)
        logging.getLogger("anomaly").error("thread %s ended by an error", name, exc_info=error)


class TerminalHandler(logging.Handler):
    """Writes records by the consoles that all commands print with. A terminal that is gone ends nothing."""

    def __init__(self, form: LogFormat, line: str, journal: bool = False, zone: str = "") -> None:
        super().__init__()
        self.form, self.line, self.journal, self.zone = form, line, journal, zone

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. Not by rich where nobody looks: it ends the process when the reader of a pipe is gone."""
        try:
            console = out if isinstance(getattr(record, "event", None), Event) else err
            texts = self.texts(record)
            if console.is_terminal:
                console.print("\n".join(texts), style=STYLES.get(record.levelno), always=True)
            else:
                console.file.write("\n".join(texts) + "\n")
                console.file.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError):  # what is written from now on, and what the exit flushes, goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())
        except OSError:  # a terminal that hung up, a full disk: what the log would say is in the store too
            pass
        except Exception:
            self.handleError(record)

    def texts(self, record: logging.LogRecord) -> list[str]:
        """The record as lines of the log."""
        return [self.as_json(record)] if self.form is LogFormat.json else self.as_text(record)

    def as_text(self, record: logging.LogRecord) -> list[str]:
        """`time LEVEL line: message`; where the journal keeps time and level itself, its priority in front instead."""
        event = getattr(record, "event", None)
        zone = zone_in(event.data) if isinstance(event, Event) else ""
        told = f"{in_zone(iso(event.time // 1), zone)}  " if isinstance(event, Event) else ""  # its words begin with its own time
        time = told.rstrip() or in_zone(iso(int(record.created)), self.zone)
        head = f"<{JOURNAL.get(record.levelno, 6)}>{told}" if self.journal else f"{time} {record.levelname:<7} "
        messages = [record.getMessage().removeprefix(told)]
        if record.exc_info:
            messages += logging.Formatter().formatException(record.exc_info).splitlines()
        name = getattr(record, "line", self.line)
        return [head + escaped(f"{name}: {message}") for message in messages]

    def as_json(self, record: logging.LogRecord) -> str:
        """One object: time, level, line, logger, message, and for an event the whole of it."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "line": getattr(record, "line", self.line),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            found["event"] = json.loads(event.to_json())
        if record.exc_info:
            found["error"] = logging.Formatter().formatException(record.exc_info)
        return json.dumps(hidden(found))


def escaped(text: str) -> str:
    """One line of text, without passwords."""
    return one_line(masked(text))


def hidden(value: Any) -> Any:
    """The same without passwords, in all texts of it; JSON itself escapes what else must not get out."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: hidden(item) for key, item in value.items()}
    return [hidden(item) for item in value] if isinstance(value, list) else value
