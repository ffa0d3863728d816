"""The frequent SQL statements of the outbox. Only integrations.outbox runs those that write.

A worker claims deliveries in two ways. Single deliveries (those that ask for verdicts, and those of unordered rules)
have a `due_at` of their own; a claim moves it to the end of the lease, so that one index range finds new, retried and
abandoned deliveries. All others are claimed by lane (rule and room): the lane has the `due_at`, and its oldest
unfinished deliveries are claimed with it. The cost of a claim depends on what it claims, not on the millions of
waiting rows.

Postgres' clock decides what is due: the clocks of hosts differ a little, and a claim by a clock that is behind would
not find what another host has just added.

Locks are taken in one order everywhere: rooms (rooms.log.room_locks), then lanes by rule and room, then deliveries.
"""

from __future__ import annotations

from typing import Final

# Settings of a claiming transaction. Only indexes and nested loops, so that cached plans stay good while the tables
# grow. No flush at commit: if Postgres crashes and forgets a claim, the deliveries are claimed again.
CLAIM_LIGHTLY: Final = (
    "SELECT set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), "
    "set_config('plan_cache_mode', 'force_generic_plan', true)"
)

# Claims due deliveries of enabled rules outside lanes: for each rule as many calls as `asked` says, deliveries with a
# deadline first, at most `free` calls in all. Calls of a batched rule carry several deliveries; these wait until the
# first of them has waited batch_wait_ms, or a batch is full. Skips rows that another worker is claiming.
#
# For rules whose late verdicts count, half of the calls are for the newest deliveries: else, after an outage, every
# call would come after its message's deadline. The last columns say whether the message still waits for this rule.
# Parameters: now, rules, calls, leases (s), owner, free.
CLAIM_SINGLES: Final = """
WITH given AS (SELECT greatest(%b::timestamptz, statement_timestamp()) AS now),
asked AS (
    SELECT rule.id AS rule_id, places.lease, rule.batched, rule.batch_events, places.calls,
        places.calls * rule.batch_bytes::bigint AS most_bytes,
        given.now + CASE WHEN rule.batched THEN rule.batch_wait_ms ELSE 0 END * interval '1 ms' AS until,
        CASE WHEN rule.batched THEN places.calls * rule.batch_events ELSE places.calls END AS rows,
        rule.late = 'apply' AS by_halves
    FROM given, unnest(%b::bigint[], %b::int[], %b::float8[]) AS places (rule_id, calls, lease)
    JOIN integrations_integrationrule AS rule ON rule.id = places.rule_id AND rule.enabled
    OFFSET 0
),
found AS (
    SELECT DISTINCT ON (either.id) either.*, asked.rule_id, asked.lease, asked.most_bytes, asked.batched,
        asked.batch_events
    FROM given, asked CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT id, message_id, room_id, due_at, deadline, octet_length(payload) AS bytes
            FROM integrations_delivery
            WHERE rule_id = asked.rule_id AND finished_at IS NULL AND NOT in_lane AND due_at <= asked.until
                AND (due_at <= given.now OR state = 'pending')
            ORDER BY due_at
            LIMIT CASE WHEN asked.by_halves THEN asked.rows / 2 ELSE asked.rows END
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS oldest
        UNION ALL
        SELECT * FROM (
            SELECT id, message_id, room_id, due_at, deadline, octet_length(payload)
            FROM integrations_delivery
            WHERE rule_id = asked.rule_id AND finished_at IS NULL AND NOT in_lane AND due_at <= asked.until
                AND (due_at <= given.now OR state = 'pending')
            ORDER BY due_at DESC
            LIMIT CASE WHEN asked.by_halves THEN (asked.rows + 1) / 2 ELSE 0 END
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS newest
    ) AS either
),
ready AS (
    SELECT *,
        sum(bytes) OVER (PARTITION BY rule_id ORDER BY due_at, id) AS bytes_so_far,
        min(due_at) OVER (PARTITION BY rule_id) AS first_due_at,
        count(*) OVER (PARTITION BY rule_id) AS gathered
    FROM found
),
chosen AS (
    SELECT id, message_id, room_id, lease,
        sum(CASE WHEN batched THEN 1.0::float8 / batch_events ELSE 1.0::float8 END)
            OVER (ORDER BY deadline IS NULL, due_at, id) AS calls_so_far
    FROM ready, given
    WHERE NOT batched
        OR ((first_due_at <= given.now OR gathered >= batch_events)
            AND (bytes_so_far <= most_bytes OR bytes_so_far = bytes))
)
UPDATE integrations_delivery AS delivery
SET state = 'delivering', attempts = delivery.attempts + 1, owner = %b,
    due_at = given.now + chosen.lease * interval '1 s'
FROM given, chosen
    LEFT JOIN rooms_message AS message ON message.id = chosen.message_id
    LEFT JOIN rooms_room AS room ON room.id = chosen.room_id
WHERE delivery.id = chosen.id AND delivery.finished_at IS NULL AND chosen.calls_so_far < %b::float8 + 0.000001
RETURNING delivery.id, delivery.rule_id, delivery.room_id, delivery.message_id, delivery.event, delivery.serial,
    delivery.webhook_id, delivery.payload, delivery.attempts, delivery.forgiven, delivery.created_at,
    delivery.deadline, room.name, room.epoch, coalesce(message.at_deadline, ''), delivery.last_status,
    coalesce(message.status = 'accepted' AND message.awaiting = 'integrations:rule-' || delivery.rule_id, false),
    delivery.answer <> ''
"""

# Claims due lanes of enabled rules, raises their fences, and passes their ids to CLAIM_HEADS in a setting of the
# transaction. CLAIM_HEADS is a statement of its own because it must see what was committed before these locks.
# Parameters: now, rules, calls, leases (s), free, owner.
CLAIM_LANES: Final = """
WITH given AS (SELECT greatest(%b::timestamptz, statement_timestamp()) AS now),
due AS (
    SELECT candidate.id, places.lease
    FROM given, unnest(%b::bigint[], %b::int[], %b::float8[]) AS places (rule_id, calls, lease)
    JOIN integrations_integrationrule AS rule ON rule.id = places.rule_id AND rule.enabled
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM integrations_lane
        WHERE rule_id = rule.id AND due_at <= (SELECT now FROM given)
        ORDER BY due_at
        LIMIT places.calls
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS candidate
    ORDER BY candidate.due_at
    LIMIT %b::int
),
taken AS (
    UPDATE integrations_lane AS lane
    SET due_at = given.now + due.lease * interval '1 s', fence = lane.fence + 1, owner = %b
    FROM due, given WHERE lane.id = due.id
    RETURNING lane.id, lane.fence
)
SELECT array_agg(id), array_agg(fence), set_config('integrations.lanes', coalesce(array_agg(id), '{}')::text, true)
FROM taken
"""

# Claims the oldest unfinished deliveries of the lanes of CLAIM_LANES: one, or for a batched rule up to a batch,
# unless the lane is narrowed to single calls after a refused batch. Parameter: owner.
CLAIM_HEADS: Final = """
WITH next AS (
    SELECT lane.id AS lane_id, oldest.id, oldest.bytes, rule.batch_bytes,
        sum(oldest.bytes) OVER (PARTITION BY lane.id ORDER BY oldest.id) AS bytes_so_far
    FROM unnest(current_setting('integrations.lanes')::bigint[]) AS claimed (id)
    JOIN integrations_lane AS lane ON lane.id = claimed.id
    JOIN integrations_integrationrule AS rule ON rule.id = lane.rule_id
    CROSS JOIN LATERAL (
        SELECT id, octet_length(payload) AS bytes FROM integrations_delivery
        WHERE rule_id = lane.rule_id AND room_id = lane.room_id AND finished_at IS NULL AND in_lane
        ORDER BY id
        LIMIT CASE WHEN rule.batched AND lane.narrow = 0 THEN rule.batch_events ELSE 1 END
    ) AS oldest
)
UPDATE integrations_delivery AS delivery
SET state = 'delivering', attempts = delivery.attempts + 1, owner = %b
FROM next, rooms_room AS room
WHERE delivery.id = next.id AND room.id = delivery.room_id
    AND (next.bytes_so_far <= next.batch_bytes OR next.bytes_so_far = next.bytes)
RETURNING delivery.id, delivery.rule_id, delivery.room_id, delivery.message_id, delivery.event, delivery.serial,
    delivery.webhook_id, delivery.payload, delivery.attempts, delivery.forgiven, delivery.created_at,
    delivery.deadline, room.name, room.epoch, next.lane_id
"""

# Locks the lanes whose claims are still valid: their fence is the one that the claim raised.
LOCK_LANES: Final = """
SELECT lane.id FROM integrations_lane AS lane
JOIN unnest(%b::bigint[], %b::bigint[]) AS mine (id, fence) USING (id)
WHERE lane.fence = mine.fence
ORDER BY lane.rule_id, lane.room_id
FOR NO KEY UPDATE OF lane
"""

# Gives lanes back: due at the head's next retry, or at once if there are more deliveries, or null if there are none.
RELEASE_LANES: Final = """
UPDATE integrations_lane AS lane
SET owner = '',
    narrow = greatest(lane.narrow + told.narrow, 0),
    due_at = CASE WHEN EXISTS (
        SELECT FROM integrations_delivery AS owed
        WHERE owed.rule_id = lane.rule_id AND owed.room_id = lane.room_id
          AND owed.finished_at IS NULL AND owed.in_lane
    ) THEN told.due_at END
FROM unnest(%b::bigint[], %b::timestamptz[], %b::int[]) AS told (id, due_at, narrow)
WHERE lane.id = told.id
RETURNING lane.due_at
"""

# Locks the lanes that a transaction may wake in several steps. A lane that does not exist yet needs no lock.
LOCK_REACH: Final = """
SELECT FROM integrations_lane WHERE rule_id = ANY(%b::bigint[]) AND room_id = ANY(%b::bigint[])
ORDER BY rule_id, room_id FOR NO KEY UPDATE
"""

# Makes the lanes of new deliveries due, and locks each lane until the transaction ends, due or not: a worker that gives
# the lane back meanwhile waits for the lock, and then sees the new delivery.
WAKE_LANES: Final = """
INSERT INTO integrations_lane (rule_id, room_id, due_at, fence, owner, narrow)
SELECT rule_id, room_id,
    least(%b::timestamptz, statement_timestamp())
        + CASE WHEN rule.batched THEN rule.batch_wait_ms ELSE 0 END * interval '1 ms', 0, '', 0
FROM unnest(%b::bigint[], %b::bigint[]) AS woken (rule_id, room_id)
JOIN integrations_integrationrule AS rule ON rule.id = woken.rule_id
ORDER BY rule_id, room_id
ON CONFLICT (rule_id, room_id) DO UPDATE SET due_at = excluded.due_at WHERE integrations_lane.due_at IS NULL
"""

# Adds deliveries. If the delivery exists it becomes pending again only if it asks for a verdict: a message can meet a
# rule a second time after another rule was removed. Rules that are gone get no delivery; the lock on a rule keeps it
# from being removed before its deliveries are committed.
# Parameters: now; rules, rooms, messages, events, serials, in_lane, webhook ids, payloads, due, deadlines.
ADD_DELIVERIES: Final = """
INSERT INTO integrations_delivery (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, state,
    attempts, forgiven, due_at, deadline, owner, last_error, answer, created_at)
SELECT rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, 'pending',
    0, 0, least(given.now, statement_timestamp()) + (due_at - given.now)
        + CASE WHEN rule.batched THEN rule.batch_wait_ms ELSE 0 END * interval '1 ms', deadline, '', '', '', given.now
FROM (SELECT %b::timestamptz AS now) AS given,
    unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::text[], %b::bigint[], %b::boolean[], %b::text[],
    %b::text[], %b::timestamptz[], %b::timestamptz[])
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

# Stores the results of calls. A worker that lost its lease changes nothing: `attempts` has grown since.
# Parameters: ids, attempts, states, due, finished, statuses, errors, answers, forgiven.
STORE_RESULTS: Final = """
UPDATE integrations_delivery AS delivery
SET state = told.state, owner = '', due_at = told.due_at, finished_at = told.finished_at,
    last_status = told.status, last_error = told.error,
    answer = CASE WHEN told.answer = '' THEN delivery.answer ELSE told.answer END,
    forgiven = CASE WHEN told.is_forgiven THEN delivery.attempts ELSE delivery.forgiven END
FROM unnest(%b::bigint[], %b::int[], %b::text[], %b::timestamptz[], %b::timestamptz[], %b::smallint[], %b::text[],
    %b::text[], %b::boolean[])
    AS told (id, attempt, state, due_at, finished_at, status, error, answer, is_forgiven)
WHERE delivery.id = told.id AND delivery.attempts = told.attempt AND delivery.state = 'delivering'
"""

# Stores the late verdicts that counted. Parameters: ids, answers.
STORE_ANSWERS: Final = """
UPDATE integrations_delivery AS delivery SET answer = told.answer
FROM unnest(%b::bigint[], %b::text[]) AS told (id, answer)
WHERE delivery.id = told.id
"""

# Cancels the shadow delivery of a message that its rule decided as a stand-in: it would be compared with itself. A
# delivery whose call is under way stays. Parameters: now, error; stand-ins, messages.
SPARE_SHADOWS: Final = """
UPDATE integrations_delivery AS delivery SET state = 'cancelled', finished_at = %b::timestamptz, last_error = %b
FROM (
    SELECT owed.id
    FROM unnest(%b::bigint[], %b::bigint[]) AS told (rule_id, message_id)
    JOIN integrations_delivery AS owed ON owed.message_id = told.message_id AND owed.rule_id = told.rule_id
    WHERE owed.state = 'pending' AND owed.deadline IS NULL
    FOR NO KEY UPDATE OF owed SKIP LOCKED
) AS spared
WHERE delivery.id = spared.id
"""

# Gives back deliveries whose calls were not begun: they are due again, and the attempt does not count.
# Parameters: now, ids, attempts.
UNCLAIM: Final = """
UPDATE integrations_delivery AS delivery
SET state = 'pending', owner = '', due_at = %b::timestamptz, forgiven = delivery.forgiven + 1
FROM unnest(%b::bigint[], %b::int[]) AS mine (id, attempt)
WHERE delivery.id = mine.id AND delivery.attempts = mine.attempt AND delivery.state = 'delivering'
"""

# Inserts attempts. If a delivery was deleted with its rule meanwhile, its attempt is left out.
# Parameters: owner; ids, numbers, moments, durations, statuses, errors, responses, events, by stand-ins.
ADD_ATTEMPTS: Final = """
INSERT INTO integrations_attempt (delivery_id, number, worker, started_at, duration_ms, status, error, response,
    events, by_stand_in)
SELECT delivery.id, made.number, %b, made.started_at, made.duration_ms, made.status, made.error, made.response,
    made.events, made.by_stand_in
FROM unnest(%b::bigint[], %b::int[], %b::timestamptz[], %b::float8[], %b::smallint[], %b::text[], %b::text[],
    %b::int[], %b::boolean[])
    AS made (delivery_id, number, started_at, duration_ms, status, error, response, events, by_stand_in)
JOIN integrations_delivery AS delivery ON delivery.id = made.delivery_id
FOR KEY SHARE OF delivery
ON CONFLICT DO NOTHING
"""
