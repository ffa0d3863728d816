"""A function: its handler file, the runtime that fits it, and the variables that AWS documents. No I/O."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from integrations.lambda_runtime import limits

BOOTSTRAP = Path(__file__).with_name("bootstrap.mjs")
# `python -m awslambdaric`, whose traces break lines for CloudWatch, with lines that a terminal breaks too, and
# without its paragraph about a handler that cannot be loaded.
PYTHON_MAIN = """
import sys
from awslambdaric import bootstrap, lambda_literals
from awslambdaric.__main__ import main
bootstrap.ERROR_LOG_LINE_TERMINATE = "\\n"
lambda_literals.lambda_unhandled_exception_warning_message = "The handler cannot be loaded:"
main(sys.argv)
"""
REGION = "us-east-1"
# Ours: tells a handler that it is on a developer's machine, as AWS_SAM_LOCAL does.
LOCAL = "CHAT_LAMBDA_LOCAL"


class FunctionError(ValueError):
    """The function cannot be served as described; the message says what to change."""


class Runtime(Enum):
    """The language of a handler, by the endings of its file."""

    PYTHON = frozenset({".py"})
    NODE = frozenset({".mjs", ".cjs", ".js"})

    @classmethod
    def of(cls, path: Path) -> Runtime:
        """Return the runtime for a file. Raises FunctionError."""
        for runtime in cls:
            if path.suffix in runtime.value:
                return runtime
        raise FunctionError(f"{path.name}: a handler is a .py, .mjs, .cjs or .js file")


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function's configuration in AWS's units. Raises FunctionError for what AWS would refuse too."""

    path: Path
    runtime: Runtime
    handler: str = "handler"
    timeout_seconds: float = limits.DEFAULT_TIMEOUT_SECONDS
    memory_mb: int = limits.MIN_MEMORY_MB
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "." in self.name:
            raise FunctionError(f"{self.path.name}: a module's name has no dot before its ending")
        if not 0 < self.timeout_seconds <= limits.MAX_TIMEOUT_SECONDS:
            raise FunctionError(f"timeout: above 0 and at most {limits.MAX_TIMEOUT_SECONDS:g} seconds")
        if not limits.MIN_MEMORY_MB <= self.memory_mb <= limits.MAX_MEMORY_MB:
            raise FunctionError(f"memory: from {limits.MIN_MEMORY_MB} to {limits.MAX_MEMORY_MB} MB")

    @property
    def name(self) -> str:
        """The function's name: its file's, without the ending."""
        return self.path.stem

    @property
    def arn(self) -> str:
        """A name in AWS's form; the account does not exist."""
        return f"arn:aws:lambda:{REGION}:000000000000:function:{self.name}"

    def arn_of(self, qualifier: str) -> str:
        """Return the ARN as a caller named it: with a version or alias, or without."""
        return f"{self.arn}:{qualifier}" if qualifier else self.arn

    def command(self, *, python: str, node: str) -> list[str]:
        """Return the command of one execution environment: AWS's own client for Python, our bootstrap for Node."""
        if self.runtime is Runtime.PYTHON:
            return [python, "-c", PYTHON_MAIN, f"{self.name}.{self.handler}"]
        return [node, str(BOOTSTRAP), str(self.path), self.handler]

    def variables(self, *, runtime_api: str, stream: str, search_path: str) -> dict[str, str]:
        """Return all variables of a handler's process ("Defined runtime environment variables").

        Nothing of ours is inherited: at AWS a function does not see the server's secrets either.
        """
        return {
            "PATH": search_path,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{self._identifier}",
            LOCAL: "1",
            **self.environment,
            "_HANDLER": f"{self.name}.{self.handler}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "LAMBDA_TASK_ROOT": str(self.path.parent),
            "LAMBDA_RUNTIME_DIR": str(BOOTSTRAP.parent),
        }

    @property
    def _identifier(self) -> str:
        if self.runtime is Runtime.NODE:
            return "nodejs"
        return f"python{'.'.join(platform.python_version_tuple()[:2])}"
