"""Django settings. Every value that an operator may change is an environment variable, declared here once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django_stubs_ext

from chatsite import environment

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where this instance lives ----------------------------------------------------------------------------

DATA = Path(environment.text("DATA", ".data", "Folder of the embedded servers, logs and secrets.")).resolve()


def read_instance() -> dict[str, Any]:
    """Return the addresses that a running `up` wrote to DATA, so that each command works on that instance."""
    try:
        return dict(json.loads((DATA / "instance.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


_instance = read_instance()

PORT = environment.integer(
    "PORT", int(_instance.get("port", 8000)), "Port of the web server.", minimum=1, maximum=65535
)
PUBLIC_URL = environment.text(
    "PUBLIC_URL",
    str(_instance.get("public_url") or f"http://127.0.0.1:{PORT}"),
    "Address under which browsers and Lambdas reach this server; callbacks and links use it.",
).rstrip("/")
DEBUG = environment.flag("DEBUG", "Show tracebacks in the browser; never in production.", default=False)
ALLOWED_HOSTS = environment.listing(
    "ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", "Host names that the server answers to, comma-separated."
)
CSRF_TRUSTED_ORIGINS = environment.listing(
    "CSRF_TRUSTED_ORIGINS", PUBLIC_URL, "Origins (scheme://host:port) whose forms are trusted."
)


def read_secret_key() -> str:
    """Return the key from the environment, else the one that `up` keeps in DATA."""
    key = environment.text("SECRET_KEY", "", "Signs sessions, connection keys and callback tokens.")
    if key:
        return key
    try:
        return (DATA / "secret_key").read_text(encoding="utf-8").strip()
    except OSError:
        # Commands that need no secret (lambda, check, makemigrations) run without one; signing with "" raises.
        return ""


SECRET_KEY = read_secret_key()
SECRET_KEY_FALLBACKS = environment.listing(
    "SECRET_KEY_FALLBACKS", "", "Former values of SECRET_KEY, still accepted while you rotate it."
)

# --- Parts ------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "chatsite",
    "moderation",
    "integrations",
    "rooms",
    "channels",
    "corsheaders",
    "rest_framework",
    "django.contrib.postgres",
    "django.contrib.admin.apps.SimpleAdminConfig",  # chatsite.urls imports the admin pages: commands have none
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "chatsite.http.static_files.static_files",
    "rooms.page.content_security.content_security",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from the finders: no collectstatic step between a pull and a restart. Versions are in the file names.
WHITENOISE_USE_FINDERS = True
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "chatsite.formats"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https:")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = environment.integer(
    "REQUEST_MAX_BYTES", 2_621_440, "Largest HTTP request body in bytes.", minimum=65_536
)

# --- Postgres ---------------------------------------------------------------------------------------------

DATABASE_THREADS = environment.integer(
    "DATABASE_THREADS", 8, "Threads, each with one connection, for state changes per process.", minimum=1
)
HTTP_CONCURRENCY = environment.integer(
    "HTTP_CONCURRENCY", 16, "HTTP requests that one gateway works on at once; further ones wait.", minimum=1
)
DATABASE_PREPARE = environment.flag(
    "DATABASE_PREPARE",
    "Prepare the statements that accept messages; turn it off behind a pooler that shares connections.",
    default=True,
)
DATABASE_STATEMENT_SECONDS = environment.seconds(
    "DATABASE_STATEMENT_SECONDS",
    15.0,
    "Longest statement in gateways and workers; then Postgres counts as away. 0: no limit (a pooler may refuse it).",
    maximum=86_400,
)
DATABASE_URL = environment.text(
    "DATABASE_URL", "", "postgresql://user:password@host/name; empty: an embedded server under DATA."
) or str(_instance.get("database_url", ""))


# A server that is gone without a word is given up within half a minute, not after the quarter of an hour (or two hours)
# of the kernel's own defaults: every thread that uses the database would wait for that. DATABASE_URL may name others.
DATABASE_LOST = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds; where data waits to be acknowledged, keepalives are not sent
}


def parse_database_url(url: str) -> dict[str, Any]:
    """Return Django's DATABASES entry for a postgresql:// address (a socket folder may stand in ?host=)."""
    parts = urlsplit(url)
    query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    host = unquote(query.pop("host", "")) or parts.hostname or ""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_HEALTH_CHECKS": True,  # a pool must not hand out what died with a restarted server
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or "postgres"),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or query.pop("port", "") or ""),
        "OPTIONS": {
            **DATABASE_LOST,
            **{name: unquote(value) for name, value in query.items()},
            "prepare_threshold": 5 if DATABASE_PREPARE else None,  # for rooms.database.statements.together alone
            "pool": {
                "min_size": 1,
                # Beside these: accepting, deadlines, a spare one, and two that wait for rooms that are stuck.
                "max_size": DATABASE_THREADS + HTTP_CONCURRENCY + 5,
                "timeout": 10,  # seconds a request waits for a connection before it fails
            },
        },
    }


# Without a server named, every use fails at once: manage.py says what to do.
DATABASES = {"default": parse_database_url(DATABASE_URL) if DATABASE_URL else {"ENGINE": "django.db.backends.dummy"}}

# --- Redis or Valkey --------------------------------------------------------------------------------------

REDIS_URL = environment.text(
    "REDIS_URL",
    "",
    "redis://host:port (several, comma-separated: sharded), redis+cluster://host:port,... or rediss:// for TLS; "
    "empty: an embedded Valkey.",
) or str(_instance.get("redis_url", "redis://127.0.0.1:6379"))
REDIS_TIMEOUT_SECONDS = environment.seconds(
    "REDIS_TIMEOUT_SECONDS",
    2.0,
    "Longest wait for Redis; what was not broadcast by then is read from Postgres.",
    minimum=0.1,
    maximum=60,
)
BROADCAST_INBOX_BYTES = 16_777_216  # that wait in a gateway; above it the oldest go and are read from Postgres
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "chatsite.channel_layer.layer.BroadcastLayer",
        "CONFIG": {
            "url": REDIS_URL,
            "timeout": REDIS_TIMEOUT_SECONDS,
            "inbox_bytes": BROADCAST_INBOX_BYTES,
            "prefix": "chat",
        },
    }
}

# --- The apps' parts, by dotted path ----------------------------------------------------------------------

ROOMS_AUTHENTICATE = "integrations.access.authentication.authenticate"
ROOMS_ENDINGS = "integrations.access.endings.of_this_loop"
ROOMS_REVIEWERS = ["moderation.reviewer.LocalReviewer", "integrations.review.reviewer.WebhookReviewer"]

# --- Limits -----------------------------------------------------------------------------------------------

MESSAGE_MAX_BYTES = environment.integer(
    "MESSAGE_MAX_BYTES", 65_536, "Largest message (name, data, client id, extras) in bytes.", minimum=1024
)
FRAME_MAX_BYTES = 4 * MESSAGE_MAX_BYTES  # of a WebSocket frame that a client sends: base64, names, several messages
PUBLISH_MAX_MESSAGES = environment.integer("PUBLISH_MAX_MESSAGES", 200, "Most messages in one publish.", minimum=1)
CONNECTION_MAX_UNACKED = environment.integer(
    "CONNECTION_MAX_UNACKED", 256, "Publishes that a connection may have unacknowledged; then it is not read."
)
CONNECTION_MAX_ROOMS = environment.integer(
    "CONNECTION_MAX_ROOMS", 200, "Rooms that one connection may be attached to.", minimum=1
)
CONNECTION_MAX_PER_GATEWAY = environment.integer(
    "CONNECTION_MAX_PER_GATEWAY",
    19_000,
    "WebSockets that one gateway holds; more go to others, or are told to try again (503).",
)
CONNECTION_SLOW_SECONDS = environment.seconds(
    "CONNECTION_SLOW_SECONDS",
    120.0,
    "How long a member may lag, since it reads too slowly, before it is disconnected.",
    minimum=1,
)
GATEWAY_DRAIN_SECONDS = environment.seconds(
    "GATEWAY_DRAIN_SECONDS", 10.0, "After SIGTERM a gateway sends its members elsewhere, spread over this time."
)
RESUME_SECONDS_WITHOUT_HISTORY = environment.integer(
    "RESUME_SECONDS_WITHOUT_HISTORY", 86_400, "How far back a token without the operation history may resume a room."
)
ROOM_NAME_MAX_CHARACTERS = 255
ROOMS_MEMORY_BYTES = environment.integer(
    "ROOMS_MEMORY_BYTES",
    268_435_456,
    "Memory for the recent messages of all rooms of a gateway; quiet rooms give theirs up first.",
)
HUB_PAUSE_SHARE = environment.seconds(
    "HUB_PAUSE_SHARE", 1.0, "Pause between two passes over a busy room, in lengths of a pass; what comes is gathered."
)
ACCEPT_QUEUE_MESSAGES = environment.integer(
    "ACCEPT_QUEUE_MESSAGES",
    10_000,
    "Publishes waiting in one process; above it they are refused (42910).",
    minimum=1,
)
ACCEPT_QUEUE_BYTES = environment.integer(
    "ACCEPT_QUEUE_BYTES",
    67_108_864,
    "Content of publishes waiting in one process, or in its transaction; above it they are refused (42910).",
    minimum=65_536,
)
ACCEPT_REST_SHARE = environment.seconds(
    "ACCEPT_REST_SHARE",
    3.0,
    "Pause of accepting for a large room, in lengths of writing to all its members: what comes is gathered.",
)
ACCEPT_RETRY_SECONDS = environment.seconds(
    "ACCEPT_RETRY_SECONDS", 20.0, "How long a publish is retried while Postgres is away, before a NACK."
)
REVIEW_DEADLINE_SECONDS = environment.seconds(
    "REVIEW_DEADLINE_SECONDS",
    15.0,
    "Budget of a message's review by Lambdas, all rules and retries together; then the rule's policy decides.",
    minimum=0.1,
)
REVIEW_DEADLINE_MAX_SECONDS = 3600.0
REVIEW_WAIT_SECONDS = environment.seconds(
    "REVIEW_WAIT_SECONDS",
    86_400.0,
    "Longest wait for a rule whose policy is to ask again until an answer comes; then a moderator decides.",
    minimum=1,
)
TRUST_KNOWN_MESSAGES = environment.integer(
    "TRUST_KNOWN_MESSAGES", 20, "Published messages after which an author is no longer new.", minimum=1
)
DELIVERY_CONCURRENCY = environment.integer(
    "DELIVERY_CONCURRENCY", 64, "Webhook calls that one worker has under way at once.", minimum=1
)
DELIVERY_TIMEOUT_SECONDS = environment.seconds(
    "DELIVERY_TIMEOUT_SECONDS", 5.0, "Longest time for one webhook call.", minimum=0.1, maximum=900
)
DELIVERY_LEASE_SECONDS = environment.seconds(
    "DELIVERY_LEASE_SECONDS",
    30.0,
    "After this a delivery claimed by a hung worker is claimed again; a dead one's sooner.",
    minimum=1,
)
DELIVERY_MAX_ATTEMPTS = environment.integer(
    "DELIVERY_MAX_ATTEMPTS", 30, "Attempts before a delivery becomes a dead letter.", minimum=1
)
DELIVERY_RETRY_SECONDS = environment.seconds(
    "DELIVERY_RETRY_SECONDS",
    99_360.0,
    "Age at which a delivery that still fails becomes a dead letter (27.6 hours).",
    minimum=1,
)
DELIVERY_RULE_CONCURRENCY = environment.integer(
    "DELIVERY_RULE_CONCURRENCY",
    25,
    "Calls to one rule that one worker has under way, if the rule says nothing.",
    minimum=1,
)
DELIVERY_KEEP_SECONDS = environment.seconds(
    "DELIVERY_KEEP_SECONDS", 604_800.0, "How long deliveries that were made are kept, with their attempts.", minimum=60
)
DELIVERY_DEAD_KEEP_SECONDS = environment.seconds(
    "DELIVERY_DEAD_KEEP_SECONDS", 2_592_000.0, "How long dead letters are kept.", minimum=60
)
RULE_WARN_SECONDS = environment.seconds(
    "RULE_WARN_SECONDS", 86_400.0, "So long a rule's calls must all have failed before admins get a notice.", minimum=1
)
RULE_DISABLE_SECONDS = environment.seconds(
    "RULE_DISABLE_SECONDS",
    432_000.0,
    "So long a rule's calls must all have failed before it is turned off (rules before publish never are).",
    minimum=1,
)
RULE_SECRET_OVERLAP_SECONDS = environment.seconds(
    "RULE_SECRET_OVERLAP_SECONDS", 86_400.0, "How long calls carry signatures by a rule's former secret too.", minimum=0
)
CALLBACK_LATE_SECONDS = environment.seconds(
    "CALLBACK_LATE_SECONDS",
    86_400.0,
    "How long after the deadline a callback is taken, where the rule applies late verdicts.",
    minimum=120,
)
AWS_REGION = environment.text(
    "AWS_REGION", "", "Region of Lambda functions where neither the rule nor its URL or ARN names one."
)
AWS_ENDPOINT_URL_STS = environment.text(
    "AWS_ENDPOINT_URL_STS", "", "Where roles are assumed, if not at AWS: for tests and for VPC endpoints."
)
WEBHOOK_ALLOW_PRIVATE = environment.listing(
    "WEBHOOK_ALLOW_PRIVATE",
    str(_instance.get("webhook_allow_private", "")),
    "Private targets that rules may call: host:port or CIDR, comma-separated.",
)
TOKEN_TTL_SECONDS = environment.integer(
    "TOKEN_TTL_SECONDS", 3600, "Life of a token when the request names none.", minimum=1
)
TOKEN_MAX_TTL_SECONDS = environment.integer("TOKEN_MAX_TTL_SECONDS", 86_400, "Longest life of a token.", minimum=1)
API_KEY_OVERLAP_SECONDS = environment.seconds(
    "API_KEY_OVERLAP_SECONDS", 86_400.0, "How long a rotated key's former secret stays good, and what it signed."
)
METRICS_ALLOW = environment.listing(
    "METRICS_ALLOW", "127.0.0.0/8,::1", "Addresses that may read /metrics without signing in: CIDR, comma-separated."
)

# --- Mail: notices about rules ----------------------------------------------------------------------------

ADMINS = [
    ("", address) for address in environment.listing("ADMINS", "", "Mail addresses that get notices, comma-separated.")
]
EMAIL_HOST = environment.text("EMAIL_HOST", "127.0.0.1", "Mail server for notices; used only where ADMINS is set.")
EMAIL_PORT = environment.integer("EMAIL_PORT", 25, "Its port.", minimum=1, maximum=65_535)
EMAIL_HOST_USER = environment.text("EMAIL_HOST_USER", "", "User name at the mail server.")
EMAIL_HOST_PASSWORD = environment.text("EMAIL_HOST_PASSWORD", "", "Password at the mail server.")
EMAIL_USE_TLS = environment.flag("EMAIL_USE_TLS", "Talk to the mail server by STARTTLS.", default=False)
EMAIL_TIMEOUT = 10  # seconds; a mail server that hangs costs a thread for so long
SERVER_EMAIL = DEFAULT_FROM_EMAIL = environment.text("EMAIL_FROM", "chat@localhost", "Sender of notices.")
EMAIL_SUBJECT_PREFIX = "[chat] "

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "integrations.rest.errors.handle",
    "UNAUTHENTICATED_USER": None,
}

# Pages of other sites may use the public REST API: it takes keys and tokens, never a cookie. Everything else (the page,
# the admin, /auth) lives by cookies and stays closed to them.
CORS_URLS_REGEX = r"^/(?:keys|channels|messages|presence|stats|time)(?:/|$)"
CORS_ALLOW_ALL_ORIGINS = True
CORS_ALLOW_HEADERS = ("authorization", "*")  # browsers do not count Authorization as part of "*"
CORS_EXPOSE_HEADERS = ("Link", "X-Ably-Errorcode", "X-Ably-Errormessage", "X-Ably-Serverid", "Retry-After")
CORS_PREFLIGHT_MAX_AGE = 7200

# --- Logging: no message text, key, token or query string ever reaches a record ---------------------------

LOG_LEVEL = environment.text("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"redact": {"()": "chatsite.redaction.Redact"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": sys.stderr,
            "formatter": "line",
            "filters": ["redact"],
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "aiohttp": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "asyncio": {"level": "WARNING"},
    },
}
