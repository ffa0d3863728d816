"""SQL of integrations.outbox.recovery, which runs seldom: by hand, after a crash, after an outage.

Each statement changes a bounded number of rows, so that no publish waits long for their locks.
"""

from __future__ import annotations

from typing import Final

# Makes finished deliveries due again, and forgives their earlier attempts. Deliveries for verdicts are left out.
# Parameters: now, ids.
RESEND: Final = """
UPDATE integrations_delivery
SET state = 'pending', due_at = %b::timestamptz, finished_at = NULL, forgiven = attempts, owner = ''
WHERE id = ANY(%b::bigint[]) AND finished_at IS NOT NULL AND deadline IS NULL
RETURNING rule_id, room_id, in_lane
"""

# Makes a rule's waiting retries due now: its target was down and is back.
# Parameters: now, rule, now, most.
RETRY_NOW_SINGLES: Final = """
UPDATE integrations_delivery SET due_at = %s::timestamptz
WHERE id = ANY(ARRAY(
    SELECT id FROM integrations_delivery
    WHERE rule_id = %s AND finished_at IS NULL AND NOT in_lane AND due_at > %s::timestamptz AND state = 'pending'
    ORDER BY due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
))
"""
RETRY_NOW_LANES: Final = """
UPDATE integrations_lane SET due_at = %s::timestamptz
WHERE id = ANY(ARRAY(
    SELECT id FROM integrations_lane WHERE rule_id = %s AND due_at > %s::timestamptz AND owner = ''
    ORDER BY due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
))
"""

# Makes due what dead workers had under lease. Leases end in the future, so only the end of the index is read.
# Parameters: now, now, owners.
RECLAIM_SINGLES: Final = """
UPDATE integrations_delivery AS delivery SET due_at = %b::timestamptz, owner = ''
FROM (
    SELECT leased.id FROM integrations_integrationrule AS rule
    CROSS JOIN LATERAL (
        SELECT id FROM integrations_delivery
        WHERE rule_id = rule.id AND finished_at IS NULL AND NOT in_lane AND due_at > %b::timestamptz
            AND owner = ANY(%b::text[])
        FOR NO KEY UPDATE
    ) AS leased
) AS left_behind
WHERE delivery.id = left_behind.id
"""
RECLAIM_LANES: Final = """
WITH given AS (SELECT %b::timestamptz AS due_at, %b::timestamptz AS now, %b::text[] AS owners),
left_behind AS MATERIALIZED (
    SELECT leased.id FROM given, integrations_integrationrule AS rule
    CROSS JOIN LATERAL (
        SELECT id FROM integrations_lane
        WHERE rule_id = rule.id AND integrations_lane.due_at > given.now AND owner = ANY(given.owners)
    ) AS leased
),
-- Every transaction locks lanes in this order.
locked AS (
    SELECT lane.id FROM given, integrations_lane AS lane JOIN left_behind USING (id)
    WHERE lane.owner = ANY(given.owners)
    ORDER BY lane.rule_id, lane.room_id FOR NO KEY UPDATE OF lane
)
UPDATE integrations_lane AS lane SET due_at = given.due_at, owner = ''
FROM given, locked WHERE lane.id = locked.id
"""

# Cancels deliveries of messages that the deadline has decided, for rules whose late verdicts change nothing.
# Parameters: now, error, now, most, now.
CANCEL_OVERDUE: Final = """
UPDATE integrations_delivery AS delivery
SET state = 'cancelled', finished_at = %s::timestamptz, owner = '', last_error = %s
FROM (
    SELECT overdue.id
    FROM integrations_integrationrule AS rule
    CROSS JOIN LATERAL (
        SELECT id, deadline FROM integrations_delivery
        WHERE rule_id = rule.id AND finished_at IS NULL AND NOT in_lane AND due_at <= %s::timestamptz
        ORDER BY due_at LIMIT %s
    ) AS due
    JOIN integrations_delivery AS overdue ON overdue.id = due.id
    WHERE rule.when = 'before' AND rule.late = 'record' AND due.deadline <= %s::timestamptz
        AND overdue.finished_at IS NULL
    FOR NO KEY UPDATE OF overdue SKIP LOCKED
) AS ended
WHERE delivery.id = ended.id
"""

# Finds the finished deliveries of a replay, oldest first.
# Parameters: rule, rule, states, since, until, event, event, after, most.
FIND_TO_REPLAY: Final = """
SELECT id FROM integrations_delivery
WHERE rule_id = %b AND state = ANY(%b::text[]) AND finished_at IS NOT NULL AND deadline IS NULL
    AND (%b::timestamptz IS NULL OR created_at >= %b::timestamptz)
    AND (%b::timestamptz IS NULL OR created_at < %b::timestamptz)
    AND (%b::text = '' OR event = %b::text) AND id > %b
ORDER BY id LIMIT %b
"""
# Postgres uses the partial index of dead letters only where the state is a literal.
FIND_DEAD_TO_REPLAY: Final = FIND_TO_REPLAY.replace(
    "state = ANY(%b::text[])", "state = 'dead' AND state = ANY(%b::text[])"
)
