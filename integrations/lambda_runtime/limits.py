"""Every bound of the local Lambda, with its reason. AWS's own are in its guide under "Lambda quotas"."""

from __future__ import annotations

MIB = 1024 * 1024

# "Invocation payload (request and response)": 6 MB each for a synchronous call.
MAX_PAYLOAD_BYTES = 6 * MIB
# AWS leaves this much room on top for a response's envelope (its emulator's `MaxPayloadSize`).
RESPONSE_SLACK_BYTES = 100
# The same for an asynchronous one: 1 MB.
MAX_EVENT_BYTES = MIB
# "How Lambda handles errors and retries with asynchronous invocation": two more tries, after one and two minutes.
EVENT_RETRY_SECONDS = (60.0, 120.0)
# "Function timeout": 900 s; 3 s where nothing is said.
MAX_TIMEOUT_SECONDS = 900.0
DEFAULT_TIMEOUT_SECONDS = 3.0
# "Function memory allocation": 128 MB to 10,240 MB.
MIN_MEMORY_MB = 128
MAX_MEMORY_MB = 10_240
# "Understanding the Lambda execution environment lifecycle": the init phase is limited to 10 seconds.
INIT_TIMEOUT_SECONDS = 10.0
# A new AWS account starts with 10 concurrent executions.
DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 1_000

# Ours: what one hostile or slow caller of the Function URL may cost.
# (Heads are bounded by aiohttp: 8,190 bytes a line, 128 headers, 32 requests that wait on one connection.)
MAX_CONNECTIONS = 1_024
MAX_BUFFERED_BYTES = 16 * MAX_PAYLOAD_BYTES
BODY_SECONDS = 30.0
WRITE_SECONDS = 30.0
IDLE_SECONDS = 75.0
LINGER_SECONDS = 5.0
MAX_QUEUED_EVENTS = 1_000
EVENT_THROTTLED_SECONDS = 1.0
# A change of the handler's folder is seen within two looks; one look costs some microseconds a file.
RELOAD_LOOK_SECONDS = 0.2
MAX_WATCHED_FILES = 500
MAX_WATCHED_DEPTH = 4
# How often a running invocation's memory is looked at; shorter invocations are looked at when they end.
MEMORY_CHECK_SECONDS = 0.1
# An environment that nobody called for this long is given back, as AWS does after some minutes.
ENVIRONMENT_IDLE_SECONDS = 300.0
# On SIGTERM running invocations may end for this long; then everything is killed. Together below 2 s.
DRAIN_SECONDS = 1.0
