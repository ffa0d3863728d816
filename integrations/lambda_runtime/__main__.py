"""`python -m integrations.lambda_runtime HANDLER`: the same as `manage.py lambda`, and faster to start."""

from __future__ import annotations

import sys

from integrations.lambda_runtime.command_line import main

sys.exit(main())
