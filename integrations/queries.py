"""The hot SQL of the outbox, each statement under a name. Only integrations.outbox runs the ones that write.

Two ways lead from a row to a worker. A delivery before publish is taken by itself: `due_at` says when, and a claim
pushes it to the end of the lease, so that the same index range finds new, retried and abandoned ones. Deliveries after
publish are taken by lane (rule and room): the lane has the `due_at`, and its oldest unfinished deliveries come with it.
So a claim costs as much as it takes, and nothing for the millions of rows behind it.

Locks are taken in one order everywhere: rooms (rooms.queries), then lanes by rule and room, then deliveries.
"""

from __future__ import annotations

from typing import Final

# What the worker has under way, by rule. A rule has at most `share` calls under way in one worker, so that one that
# hangs leaves room for the others; a batched rule before publish at most `batches`, each of up to `batch` messages:
# what comes meanwhile gathers.
_FREE: Final = """
    FROM integrations_integrationrule AS rule
    LEFT JOIN unnest(%(busy_rules)s::bigint[], %(busy_calls)s::int[]) AS busy (rule_id, calls) ON busy.rule_id = rule.id
"""

# Takes due deliveries before publish of enabled rules, the longest due first, each rule within its share. Skips
# those that another worker is just taking. Tells whether the message still waits for this rule.
CLAIM_BEFORE: Final = f"""
WITH due AS (
    SELECT candidate.id
    {_FREE}
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM integrations_delivery
        WHERE rule_id = rule.id AND finished_at IS NULL AND NOT in_lane AND due_at <= %(now)s
        ORDER BY due_at
        LIMIT CASE WHEN rule.batched
            THEN greatest(%(batches)s - coalesce(busy.calls, 0), 0) * %(batch)s
            ELSE greatest(%(share)s - coalesce(busy.calls, 0), 0) END
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS candidate
    WHERE rule.enabled AND rule.when = 'before'
    ORDER BY candidate.due_at
    LIMIT %(limit)s
)
UPDATE integrations_delivery AS delivery
SET state = 'delivering', attempts = delivery.attempts + 1, owner = %(owner)s, due_at = %(lease_until)s
FROM due, rooms_message AS message, rooms_room AS room
WHERE delivery.id = due.id AND delivery.finished_at IS NULL
  AND message.id = delivery.message_id AND room.id = delivery.room_id
RETURNING delivery.id, delivery.rule_id, delivery.room_id, delivery.message_id, delivery.event, delivery.serial,
    delivery.webhook_id, delivery.payload, delivery.attempts, delivery.forgiven, delivery.created_at,
    delivery.deadline, room.name, room.epoch,
    message.status = 'accepted' AND message.awaiting = 'integrations:rule-' || delivery.rule_id
"""

# Takes due lanes of enabled rules and raises their fence. What a lane owes is read by the next statement, under the
# lane's lock, so that it sees everything that was committed before.
CLAIM_LANES: Final = f"""
WITH due AS (
    SELECT candidate.id
    {_FREE}
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM integrations_lane
        WHERE rule_id = rule.id AND due_at <= %(now)s
        ORDER BY due_at
        LIMIT greatest(%(share)s - coalesce(busy.calls, 0), 0)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS candidate
    WHERE rule.enabled
    ORDER BY candidate.due_at
    LIMIT %(limit)s
)
UPDATE integrations_lane AS lane
SET due_at = %(lease_until)s, fence = lane.fence + 1, owner = %(owner)s
FROM due WHERE lane.id = due.id
RETURNING lane.id, lane.fence
"""

# The oldest unfinished deliveries of claimed lanes: one, or for a batched rule up to a batch, unless the lane is
# looking for the one that a batch failed on.
TAKE_HEADS: Final = """
WITH head AS (
    SELECT lane.id AS lane_id, oldest.id
    FROM integrations_lane AS lane
    JOIN integrations_integrationrule AS rule ON rule.id = lane.rule_id
    CROSS JOIN LATERAL (
        SELECT id FROM integrations_delivery
        WHERE rule_id = lane.rule_id AND room_id = lane.room_id AND finished_at IS NULL AND in_lane
        ORDER BY id
        LIMIT CASE WHEN rule.batched AND lane.narrow = 0 THEN %(batch)s ELSE 1 END
    ) AS oldest
    WHERE lane.id = ANY(%(lanes)s)
)
UPDATE integrations_delivery AS delivery
SET state = 'delivering', attempts = delivery.attempts + 1, owner = %(owner)s
FROM head, rooms_room AS room
WHERE delivery.id = head.id AND room.id = delivery.room_id
RETURNING delivery.id, delivery.rule_id, delivery.room_id, delivery.message_id, delivery.event, delivery.serial,
    delivery.webhook_id, delivery.payload, delivery.attempts, delivery.forgiven, delivery.created_at,
    delivery.deadline, room.name, room.epoch, head.lane_id
"""

# The locks of lanes, for whoever still has the claim: the fence is the one that its claim raised.
LOCK_LANES: Final = """
SELECT lane.id FROM integrations_lane AS lane
JOIN unnest(%(lanes)s::bigint[], %(fences)s::bigint[]) AS mine (id, fence) USING (id)
WHERE lane.fence = mine.fence
ORDER BY lane.rule_id, lane.room_id
FOR NO KEY UPDATE OF lane
"""

# Gives lanes back: due at the head's next retry, at once where more is owed, asleep where nothing is.
RELEASE_LANES: Final = """
UPDATE integrations_lane AS lane
SET owner = '',
    narrow = greatest(lane.narrow + told.narrow, 0),
    due_at = CASE WHEN EXISTS (
        SELECT FROM integrations_delivery AS owed
        WHERE owed.rule_id = lane.rule_id AND owed.room_id = lane.room_id
          AND owed.finished_at IS NULL AND owed.in_lane
    ) THEN told.due_at END
FROM unnest(%(lanes)s::bigint[], %(due)s::timestamptz[], %(narrow)s::int[]) AS told (id, due_at, narrow)
WHERE lane.id = told.id
"""

# Wakes the lanes of new deliveries. It locks each until the transaction ends, awake or not: whoever is about to let
# the lane sleep waits, and then sees the delivery.
WAKE_LANES: Final = """
INSERT INTO integrations_lane (rule_id, room_id, due_at, fence, owner, narrow)
SELECT rule_id, room_id, %(now)s, 0, '', 0
FROM unnest(%(rules)s::bigint[], %(rooms)s::bigint[]) AS woken (rule_id, room_id)
JOIN integrations_integrationrule AS rule ON rule.id = woken.rule_id
ORDER BY rule_id, room_id
ON CONFLICT (rule_id, room_id) DO UPDATE SET due_at = excluded.due_at WHERE integrations_lane.due_at IS NULL
"""

# Adds deliveries. One that is there already is asked for again only if it asks for a verdict: the rule was passed,
# then removed from the chain's view and met a second time. A rule that is being removed owes nothing any more; the
# lock keeps one that is not from going before the deliveries are there.
ADD_DELIVERIES: Final = """
INSERT INTO integrations_delivery (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, state,
    attempts, forgiven, due_at, deadline, owner, last_error, answer, created_at)
SELECT rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, 'pending', 0,
    0, due_at, deadline, '', '', '', %(now)s
FROM unnest(%(rules)s::bigint[], %(rooms)s::bigint[], %(messages)s::bigint[], %(events)s::text[],
    %(serials)s::bigint[], %(in_lane)s::boolean[], %(webhook_ids)s::text[], %(payloads)s::text[],
    %(due)s::timestamptz[], %(deadlines)s::timestamptz[])
    WITH ORDINALITY
    AS owed (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, due_at, deadline, place)
JOIN integrations_integrationrule AS rule ON rule.id = owed.rule_id
ORDER BY place
FOR KEY SHARE OF rule
ON CONFLICT (message_id, rule_id, event, serial) DO UPDATE
SET state = 'pending', payload = excluded.payload, due_at = excluded.due_at, deadline = excluded.deadline,
    forgiven = integrations_delivery.attempts, owner = '', finished_at = NULL, answer = ''
WHERE excluded.deadline IS NOT NULL
"""

# Stores what calls brought. A worker that lost its lease meanwhile changes nothing: the attempt is another's.
STORE_RESULTS: Final = """
UPDATE integrations_delivery AS delivery
SET state = told.state, owner = '', due_at = told.due_at, finished_at = told.finished_at,
    last_status = told.status, last_error = told.error,
    answer = CASE WHEN told.answer = '' THEN delivery.answer ELSE told.answer END
FROM unnest(%(ids)s::bigint[], %(attempts)s::int[], %(states)s::text[], %(due)s::timestamptz[],
    %(finished)s::timestamptz[], %(statuses)s::smallint[], %(errors)s::text[], %(answers)s::text[])
    AS told (id, attempt, state, due_at, finished_at, status, error, answer)
WHERE delivery.id = told.id AND delivery.attempts = told.attempt AND delivery.state = 'delivering'
RETURNING delivery.id
"""

# Calls that were not begun after all (the worker stops): their deliveries are due again, and the attempt not counted
# against them.
UNCLAIM: Final = """
UPDATE integrations_delivery AS delivery
SET state = 'pending', owner = '', due_at = %(now)s, forgiven = delivery.forgiven + 1
FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS mine (id, attempt)
WHERE delivery.id = mine.id AND delivery.attempts = mine.attempt AND delivery.state = 'delivering'
"""

# Writes down calls. The delivery may have gone with its rule meanwhile; then the attempt is not kept either.
ADD_ATTEMPTS: Final = """
INSERT INTO integrations_attempt (delivery_id, number, worker, started_at, duration_ms, status, error, response,
    events, by_stand_in)
SELECT delivery.id, made.number, %(owner)s, made.started_at, made.duration_ms, made.status, made.error, made.response,
    1, false
FROM unnest(%(ids)s::bigint[], %(numbers)s::int[], %(started)s::timestamptz[], %(durations)s::float8[],
    %(statuses)s::smallint[], %(errors)s::text[], %(responses)s::text[])
    AS made (delivery_id, number, started_at, duration_ms, status, error, response)
JOIN integrations_delivery AS delivery ON delivery.id = made.delivery_id
FOR KEY SHARE OF delivery
ON CONFLICT DO NOTHING
"""

# Makes dead letters due again, with all attempts before them.
RESEND: Final = """
UPDATE integrations_delivery
SET state = 'pending', due_at = %(now)s, finished_at = NULL, forgiven = attempts, owner = ''
WHERE id = ANY(%(ids)s) AND finished_at IS NOT NULL AND in_lane
RETURNING id, rule_id, room_id
"""
