"""Removes credentials from every log record."""

from __future__ import annotations

import logging
import re

SECRETS = re.compile(
    r"""(?P<query>\?[^\s"'<>]+)                                     # query strings carry keys and tokens
      | (?P<key>\b[\w-]{2,}\.[\w-]{2,}:[\w-]{8,})                   # appId.keyId:secret
      | (?P<jwt>\beyJ[\w-]+\.[\w-]+\.[\w-]*)                        # JSON Web Tokens
      | (?P<token>\b[A-Za-z0-9]{6,32}\.AQ[\w-]{60,})                # this server's own tokens
      | (?P<header>\b(?:Bearer|Basic)\s+[\w.~+/=-]+)                # Authorization headers
      | (?P<url>(?<=://)[^/\s:@]+:[^/\s@]+(?=@))                    # passwords in URLs
        # Postgres quotes the row that it refused, line feeds and all: up to the next exception, or the end.
      | (?P<row>(?<=DETAIL:)(?s:.*?)(?=\n\nThe\ above\ exception|\n\nDuring\ handling|\Z))
      | (?P<webhook>\bwh(?:sec|sk)_[\w+/=]+)""",
    re.VERBOSE,
)


def redact(text: str) -> str:
    """Return the text with everything that looks like a credential replaced."""
    return SECRETS.sub(lambda match: f"[{match.lastgroup} removed]", text)


class Redact(logging.Filter):
    """Rewrite each record, its traceback included, before a handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place and let the record through."""
        record.msg = redact(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True
