"""TLS for servers behind https:// addresses."""

from __future__ import annotations

import ssl

from chatsite.swarm.plan import LOOPBACK, Plan


def context_for(plan: Plan) -> ssl.SSLContext | None:
    """Return how to speak TLS to a plan's server; None where it speaks plainly.

    A server on this machine may have any certificate: whoever could stand between is on this machine, too.
    """
    if not plan.is_tls:
        return None
    context = ssl.create_default_context()
    if plan.address[0] in LOOPBACK:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
