"""SQL of the outbox that runs seldom: by hand, after a crash, after an outage. Only integrations.outbox runs it.

All goes in bounded steps, so that no publish waits for long behind it.
"""

from __future__ import annotations

from typing import Final

# Makes finished deliveries due again, with all attempts before them forgiven. Verdicts are not asked for again.
# Parameters: now, ids.
RESEND: Final = """
UPDATE integrations_delivery
SET state = 'pending', due_at = %b::timestamptz, finished_at = NULL, forgiven = attempts, owner = ''
WHERE id = ANY(%b::bigint[]) AND finished_at IS NOT NULL AND deadline IS NULL
RETURNING rule_id, room_id, in_lane
"""

# What a rule's target failed on while it was down is due now, not when each one's own wait ends.
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

# What workers that died had under lease is due now. A lease ends in the future, which is where the index begins.
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
-- In the order in which everybody locks lanes.
locked AS (
    SELECT lane.id FROM given, integrations_lane AS lane JOIN left_behind USING (id)
    WHERE lane.owner = ANY(given.owners)
    ORDER BY lane.rule_id, lane.room_id FOR NO KEY UPDATE OF lane
)
UPDATE integrations_lane AS lane SET due_at = given.due_at, owner = ''
FROM given, locked WHERE lane.id = locked.id
"""

# Ends asking about messages that their deadline has decided, where a late verdict would change nothing.
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

# Finished deliveries that a replay means, oldest first.
# Parameters: rule, rule, states, since, until, event, event, after, most.
FIND_TO_REPLAY: Final = """
SELECT id FROM integrations_delivery
WHERE rule_id = %b AND state = ANY(%b::text[]) AND finished_at IS NOT NULL AND deadline IS NULL
    AND (%b::timestamptz IS NULL OR created_at >= %b::timestamptz)
    AND (%b::timestamptz IS NULL OR created_at < %b::timestamptz)
    AND (%b::text = '' OR event = %b::text) AND id > %b
ORDER BY id LIMIT %b
"""
# The index of dead letters is used where the state is written out.
FIND_DEAD_TO_REPLAY: Final = FIND_TO_REPLAY.replace(
    "state = ANY(%b::text[])", "state = 'dead' AND state = ANY(%b::text[])"
)
