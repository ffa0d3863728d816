"""A pytest plugin: which worker of pytest-xdist runs which tests (`-n auto`, as `make test` has it).

The tests of a module stay together, since they share what the module starts. Tests that use one of the instances of
`INSTANCES` stay together too, wherever they stand: each instance starts once, no other worker is at it, and it ends
after the last of them.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from xdist.scheduler import LoadGroupScheduling

# An instance and a browser mostly wait, for a clock and for each other: more workers than cores keep these busy.
WAITING_WORKERS = 2
MOST_WORKERS = 8
# The fixtures that start one, and no others. The work that takes longest comes first, for the short to fill the gaps
# at the end.
INSTANCES = ("instance", "pair", "server", "hurt", "small")


class Scheduling(LoadGroupScheduling):
    """Distributes by module what is in no group."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return scope.split("::", 1)[0]


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return 0 for modules and single tests: they run in this process, sooner than a worker would be ready."""
    if all(".py" in argument for argument in config.args):
        return 0
    return min((os.cpu_count() or 1) + WAITING_WORKERS, MOST_WORKERS)


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Distribute by groups in the order of collection, whatever `--dist` says."""
    if config.getoption("numprocesses"):
        config.option.dist = "loadgroup"
        config.option.loadscopereorder = False


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadGroupScheduling:
    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the group of each test with an instance, and put these first, then the modules with the most tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    config.option.loadgroup = True  # a worker knows only what was on the command line, and would ignore the groups
    tests_of = Counter(item.path for item in items)
    order: dict[pytest.Item, tuple[int, int]] = {}
    for item in items:
        found = [rank for rank, name in enumerate(INSTANCES) if name in getattr(item, "fixturenames", ())]
        if found:
            item.add_marker(pytest.mark.xdist_group(INSTANCES[found[0]]))
        order[item] = (found[0], 0) if found else (len(INSTANCES), -tests_of[item.path])
    items.sort(key=order.__getitem__)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose group is not in its id, where xdist looks for it: the group would be scattered."""
    group = item.get_closest_marker("xdist_group")
    if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
        pytest.fail("pytest-xdist does not group tests with this pytest: take another release of one.", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End an instance after its last test: the processes of an idle one take a twentieth of a core."""
    if "PYTEST_XDIST_WORKER" not in os.environ or not isinstance(item, pytest.Function):
        return
    still_used = getattr(nextitem, "fixturenames", ())
    for name in INSTANCES:
        if name in item.fixturenames and name not in still_used:
            for definition in item._fixtureinfo.name2fixturedefs[name]:
                definition.finish(item._request)  # and what was made with it
