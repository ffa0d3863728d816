"""One run as the command line asks for it: key and rule are made and removed, progress is shown, the plot is drawn."""

from __future__ import annotations

import resource
import select
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings

from chatsite.swarm.arguments import pids_of, plan_of
from chatsite.swarm.conductor import Conductor
from chatsite.swarm.display import Display
from chatsite.swarm.plan import Protocol, SwarmFailed
from chatsite.swarm.results import plot
from chatsite.swarm.results.report import Report
from chatsite.swarm.server.instance import is_local, with_key, with_rule
from chatsite.up.launch import raise_descriptor_limit


def run(options: dict[str, Any]) -> Report:
    """Return the report of one run. Raises SwarmFailed."""
    if not hasattr(select, "epoll"):
        raise SwarmFailed("The swarm needs Linux (epoll). It may run on another machine than the server: --url.")
    raise_descriptor_limit()
    plan = plan_of(options)
    display = Display(plan, sys.stderr, width=shutil.get_terminal_size().columns if sys.stderr.isatty() else None)
    needed = len(plan.member_shares())
    if needed > plan.processes and not options["json"]:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = f"{plan.members_per_process} each at most: a process here may open {limit} descriptors."
        print(f"{needed} processes hold the members, {most}", file=sys.stderr)
    with ExitStack() as stack:
        if not plan.key and plan.protocol is Protocol.CHAT:
            plan = stack.enter_context(with_key(plan, settings.DATA))
        if plan.review is not None:
            stack.enter_context(with_rule(plan, options["at_deadline"]))
        pids = pids_of(options["pids"], with_workers=plan.review is not None)
        show = (lambda _: None) if options["json"] else display.show
        data = settings.DATA if is_local(plan.url, settings.DATA) else None
        try:
            report = Conductor(plan, pids, show, data=data).run()
        except KeyboardInterrupt:
            raise SwarmFailed("Stopped before there was a report.") from None
    display.clear()
    if options["plot"] is not None:
        write_plot(options["plot"], report)
    return report


def write_plot(path: Path, report: Report) -> None:
    """Write the plot of a run. Raises SwarmFailed."""
    try:
        path.write_text(plot.draw(report), encoding="utf-8")
    except OSError as error:
        raise SwarmFailed(f"The plot could not be written to {path}: {error.strerror}.") from error
