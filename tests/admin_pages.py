"""What tests of admin pages share: the cast, and a look at what Postgres does for a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|SAVEPOINT)\b")


def sign_in(name: str, *permissions: str, is_staff: bool = True) -> Client:
    """Return a browser in which somebody with these permissions ("app.codename") is signed in."""
    user = User.objects.create_user(name, is_staff=is_staff)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def told(response: Any) -> list[str]:
    """Return what the page after an action says was done."""
    return [str(message) for message in response.context["messages"]]


def act(client: Client, url: str, action: str, *keys: int, **fields: str) -> Any:
    """Run an action of a change list on rows, and return the page that follows."""
    data = {"action": action, "_selected_action": list(keys), "index": "0", **fields}
    return client.post(url, data, follow=True)


def plans_of(client: Client, url: str) -> list[tuple[str, dict[str, Any]]]:
    """Open a page and return each of its queries with its plan."""
    with CaptureQueriesContext(connection) as queries:
        response = client.get(url)
        assert response.status_code == 200, (url, response.status_code)
    plans = []
    for query in queries:
        sql = query["sql"]
        if sql.lstrip(" (").startswith(("SELECT", "WITH")) and not CHANGES.match(sql):
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN (FORMAT JSON) " + sql)
                plan = cursor.fetchone()[0]
            plans.append((sql, (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
    return plans


def sequential_scans(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that a plan reads from end to end."""
    if plan["Node Type"] in ("Seq Scan", "Parallel Seq Scan"):
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from sequential_scans(part)
