"""The URLs of AWS services by region. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

FUNCTION_URL_HOST = re.compile(r"[a-z0-9]+\.lambda-url\.(?P<region>[a-z0-9-]+)\.on\.(aws|amazonwebservices\.com\.cn)")
FUNCTION_ARN = re.compile(r"arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):")
INVOKE_PATH = "/2015-03-31/functions/{function}/invocations"


def region_of(*, region: str, url: str, function: str, default: str) -> str:
    """Return the region for a signature: the rule's own, that of the URL or the ARN, or the default; "" without any."""
    if region:
        return region
    host = urlsplit(url).hostname or ""
    found = FUNCTION_URL_HOST.fullmatch(host) or FUNCTION_ARN.match(function)
    return found["region"] if found else default


def sts_url(region: str) -> str:
    """Return the URL of a region's Security Token Service."""
    return f"https://sts.{region}.{_suffix(region)}/"


def invoke_url(function: str, *, region: str, qualifier: str = "", base: str = "") -> str:
    """Return the URL that invokes a function. `base`: another endpoint than AWS's."""
    root = base.rstrip("/") or f"https://lambda.{region}.{_suffix(region)}"
    query = f"?Qualifier={quote(qualifier, safe='')}" if qualifier else ""
    return root + INVOKE_PATH.format(function=quote(function, safe="")) + query


def _suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
