"""What `store.py` sends to PostgreSQL. Every statement changes state whole or not at all.

Batches go as one JSON text: the driver takes several times as long to write a dozen arrays.
"""

COLUMNS = """number, id, owner, agent_name, status, attempt, session_id, background, created_at, started_at, ended_at,
    output, error, dead, events, door, request"""
CLAIMED = "number, attempt, id, owner, identity, agent_name, session_id, input, metadata, timeout_seconds, background,\
 checkpoint, door, events"

ACCEPT = f"""
WITH accepted AS (
    INSERT INTO lakemesh.invocations
        (owner, id, identity, agent_name, session_id, input, metadata, timeout_seconds, digest, background, door,
         request, status, worker, attempt, started_at)
    SELECT owner, id, identity::json, agent_name, session_id, input::json, metadata::json, timeout_seconds,
        decode(digest, 'hex'), background, door, request::json,
        CASE WHEN worker IS NULL THEN 'queued' ELSE 'running' END, worker,
        CASE WHEN worker IS NULL THEN 0 ELSE 1 END, CASE WHEN worker IS NOT NULL THEN now() END
    FROM json_to_recordset(%(new)s::json) AS new(owner text, id uuid, identity text, agent_name text, session_id text,
        input text, metadata text, timeout_seconds float8, digest text, background boolean, door text, request text,
        worker uuid)
    ON CONFLICT (owner, id) DO NOTHING
    RETURNING {COLUMNS}
), woken AS (
    SELECT pg_notify('lakemesh', 'invocations') FROM (SELECT FROM accepted WHERE status = 'queued' LIMIT 1) AS one
)
SELECT {COLUMNS} FROM accepted LEFT JOIN woken ON true
"""  # noqa: S608 - no value in it
DIGEST = "SELECT digest FROM lakemesh.invocations WHERE owner = %s AND id = %s"
FIND = f"SELECT {COLUMNS} FROM lakemesh.invocations WHERE owner = %s AND id = %s"  # noqa: S608

# Who has fewest running comes first, then who came first; no user has more than his share running.
CLAIM = f"""
WITH running AS (
    SELECT owner, count(*) AS running FROM lakemesh.invocations WHERE status = 'running' GROUP BY owner
), ranked AS (
    SELECT number, row_number() OVER (PARTITION BY owner ORDER BY number) + coalesce(running, 0) AS turn
    FROM lakemesh.invocations LEFT JOIN running USING (owner)
    WHERE status = 'queued' AND available_at <= now()
), chosen AS (
    SELECT number FROM lakemesh.invocations
    WHERE status = 'queued'
        AND number IN (SELECT number FROM ranked WHERE turn <= %(per_user)s ORDER BY turn, number LIMIT %(limit)s)
    FOR UPDATE SKIP LOCKED
)
UPDATE lakemesh.invocations SET status = 'running', worker = %(worker)s, attempt = attempt + 1,
    started_at = coalesce(started_at, now())
FROM chosen WHERE invocations.number = chosen.number
RETURNING {", ".join(f"invocations.{name.strip()}" for name in CLAIMED.split(","))}
"""  # noqa: S608
NEXT_AVAILABLE = """
SELECT extract(epoch FROM min(available_at) - now())::float8 FROM lakemesh.invocations WHERE status = 'queued'
"""

# Fenced: of each run something is written only when this worker still runs this attempt. A `status` of NULL leaves it
# running. The wake-ups go out with the commit.
WRITE = """
WITH written AS (
    SELECT * FROM json_to_recordset(%(written)s::json) AS written(number bigint, attempt integer, status text,
        output text, error text, dead boolean, execution_id text, after_seconds float8, refund integer, added integer)
), mine AS (
    UPDATE lakemesh.invocations AS run SET
        events = run.events + written.added,
        execution_id = coalesce(written.execution_id, run.execution_id),
        status = CASE
            WHEN written.status IS NULL THEN run.status
            WHEN written.status = 'waiting' AND (run.cancel_requested OR NOT EXISTS (
                SELECT FROM lakemesh.invocation_questions AS question
                WHERE question.invocation = run.number AND question.answered_at IS NULL)) THEN 'queued'
            ELSE written.status END,
        output = written.output::json,
        error = written.error::json,
        dead = written.dead,
        attempt = run.attempt - written.refund,
        available_at = now() + make_interval(secs => written.after_seconds),
        worker = CASE WHEN written.status IS NULL THEN run.worker END,
        ended_at = CASE WHEN written.status IN ('completed', 'failed', 'cancelled') THEN now() END
    FROM written
    WHERE run.number = written.number AND run.attempt = written.attempt AND run.worker = %(worker)s
        AND run.status = 'running'
    RETURNING run.number, run.events - written.added AS before, written.attempt, run.status, run.ended_at
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT mine.number, mine.before + event.place, mine.attempt, event.type, event.event::json
    FROM mine JOIN json_to_recordset(%(events)s::json) AS event(number bigint, place integer, type text, event text)
        USING (number)
)
SELECT number, ended_at, pg_notify('lakemesh', 'invocation/' || number),
    CASE WHEN status = 'queued' THEN pg_notify('lakemesh', 'invocations') END
FROM mine
"""
CHECKPOINT = """
UPDATE lakemesh.invocations SET checkpoint = %(checkpoint)s
WHERE number = %(number)s AND attempt = %(attempt)s AND worker = %(worker)s AND status = 'running'
"""

ASK = """
INSERT INTO lakemesh.invocation_questions (invocation, key, question_id, message, schema, expires_at)
SELECT number, %(key)s, %(question_id)s, %(message)s, %(schema)s, now() + make_interval(secs => %(timeout_seconds)s)
FROM lakemesh.invocations
WHERE number = %(number)s AND attempt = %(attempt)s AND worker = %(worker)s AND status = 'running'
ON CONFLICT (invocation, key) DO NOTHING RETURNING key
"""
QUESTION = """
SELECT question_id, message, schema, answer, answered_at IS NOT NULL AS answered, expires_at <= now() AS expired,
    NOT EXISTS (
        SELECT FROM lakemesh.approvals
        WHERE approvals.invocation = question.invocation AND approvals.question_id = question.question_id AND four_eyes
    ) AS answerable
FROM lakemesh.invocation_questions AS question
"""
QUESTION_OF_RUN = f"{QUESTION} WHERE invocation = %s AND key = %s"
OPEN_QUESTIONS = f"{QUESTION} WHERE invocation = %s AND answered_at IS NULL AND expires_at > now() ORDER BY asked_at"
# The run's row is locked too, so that one that is just leaving memory is not left there; of a run that has ended
# nothing is answered.
WAKE_ANSWERED = """
woken AS (
    UPDATE lakemesh.invocations SET events = events + 1,
        status = CASE status WHEN 'waiting' THEN 'queued' ELSE status END,
        available_at = CASE status WHEN 'waiting' THEN now() ELSE available_at END
    FROM answered WHERE number = answered.invocation AND status IN ('queued', 'running', 'waiting')
    RETURNING number, events, attempt
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, 'answered', %(event)s::json FROM woken
)
SELECT pg_notify('lakemesh', 'answer/' || number), pg_notify('lakemesh', 'invocation/' || number),
    pg_notify('lakemesh', 'invocations') FROM woken
"""
# What waits for an approval is answered by who decides.
ANSWER = f"""
WITH answered AS (
    UPDATE lakemesh.invocation_questions AS question SET answer = %(answer)s, answered_at = now(),
        answered_by = %(user)s
    WHERE invocation = %(number)s AND question_id = %(question_id)s AND answered_at IS NULL AND expires_at > now()
        AND NOT EXISTS (
            SELECT FROM lakemesh.approvals
            WHERE approvals.invocation = question.invocation AND approvals.question_id = question.question_id)
    RETURNING invocation
), {WAKE_ANSWERED}
"""  # noqa: S608 - no value in it
APPROVAL_COLUMNS = """approval.id, approval.question_id, approval.agent_name, approval.execution_id, approval.proposal,
    approval.approver_users, approval.approver_groups, approval.four_eyes, approval.asked_at, approval.expires_at,
    approval.decision, approval.decided_by, approval.decided_at, approval.comment, run.id AS invocation_id,
    run.owner AS asked_by, run.identity->>'email' AS asked_by_email, run.input,
    coalesce(approval.decision, CASE WHEN run.status NOT IN ('queued', 'running', 'waiting') THEN 'withdrawn'
        WHEN approval.expires_at <= now() THEN 'expired' ELSE 'pending' END) AS status"""
APPROVALS = f"""
SELECT {APPROVAL_COLUMNS} FROM lakemesh.approvals AS approval
JOIN lakemesh.invocations AS run ON run.number = approval.invocation
"""  # noqa: S608
ADD_APPROVAL = """
WITH asked AS (
    INSERT INTO lakemesh.approvals (id, invocation, question_id, agent_name, execution_id, proposal, approver_users,
        approver_groups, four_eyes, expires_at)
    SELECT %(id)s, invocation, question_id, %(agent_name)s, %(execution_id)s, %(proposal)s, %(users)s, %(groups)s,
        %(four_eyes)s, expires_at
    FROM lakemesh.invocation_questions WHERE invocation = %(number)s AND question_id = %(question_id)s
    RETURNING id
)
SELECT pg_notify('lakemesh', 'approvals') FROM asked
"""
DECIDE = f"""
WITH decided AS (
    UPDATE lakemesh.approvals SET decision = %(decision)s, decided_by = %(user)s, decided_at = now(),
        comment = %(comment)s
    WHERE id = %(id)s AND decision IS NULL AND expires_at > now() AND EXISTS (
        SELECT FROM lakemesh.invocations WHERE number = invocation AND status IN ('queued', 'running', 'waiting'))
    RETURNING invocation, question_id
), answered AS (
    UPDATE lakemesh.invocation_questions AS question SET answer = %(answer)s, answered_at = now(),
        answered_by = %(user)s
    FROM decided
    WHERE question.invocation = decided.invocation AND question.question_id = decided.question_id
        AND answered_at IS NULL
    RETURNING question.invocation
), {WAKE_ANSWERED}
"""  # noqa: S608
# To be told to others: claimed for a minute by who tells it, so that one that dies meanwhile leaves it to the next.
CLAIM_UNTOLD = f"""
WITH due AS (
    SELECT id FROM lakemesh.approvals
    WHERE told_at IS NULL AND tell_after <= now() AND decision IS NULL AND expires_at > now()
    ORDER BY asked_at LIMIT 10 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE lakemesh.approvals AS approval SET tell_after = now() + interval '1 minute' FROM due
    WHERE approval.id = due.id RETURNING approval.*
)
SELECT {APPROVAL_COLUMNS} FROM claimed AS approval
JOIN lakemesh.invocations AS run ON run.number = approval.invocation
"""  # noqa: S608
TOLD = "UPDATE lakemesh.approvals SET told_at = now() WHERE id = %s"
# One that failed runs again, with another input and by the rights of who asks for it now.
RESUME = f"""
WITH resumed AS (
    UPDATE lakemesh.invocations SET status = CASE WHEN %(worker)s::uuid IS NULL THEN 'queued' ELSE 'running' END,
        worker = %(worker)s, attempt = attempt + 1, input = %(input)s, identity = %(identity)s, error = NULL,
        ended_at = NULL, dead = false, available_at = now(), events = events + 1
    WHERE owner = %(owner)s AND id = %(id)s AND status = 'failed' AND error->>'code' = %(code)s
    RETURNING {CLAIMED}
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, 'resumed', %(event)s::json FROM resumed
)
SELECT {CLAIMED}, pg_notify('lakemesh', 'invocations') AS woken FROM resumed
"""  # noqa: S608
# Who waits for an answer that will not come any more runs again, to be told so; so does one whose answer came while it
# was leaving memory.
EXPIRE_QUESTIONS = """
UPDATE lakemesh.invocations SET status = 'queued', available_at = now()
WHERE status = 'waiting' AND (
    EXISTS (
        SELECT FROM lakemesh.invocation_questions
        WHERE invocation = number AND answered_at IS NULL AND expires_at <= now())
    OR NOT EXISTS (SELECT FROM lakemesh.invocation_questions WHERE invocation = number AND answered_at IS NULL))
"""

HEARTBEAT = """
INSERT INTO lakemesh.workers (id) VALUES (%(worker)s) ON CONFLICT (id) DO UPDATE SET heartbeat_at = now()
"""
HELD = "SELECT number, attempt FROM lakemesh.invocations WHERE worker = %s AND status = 'running'"
# The runs of workers that are dead, and what this one lost, go back into the queue; after their last attempt they end.
TAKE_OVER = """
WITH dead AS (
    SELECT number FROM lakemesh.invocations
    WHERE status = 'running' AND worker IS NOT NULL AND (
        NOT EXISTS (
            SELECT FROM lakemesh.workers
            WHERE id = worker AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
        OR (worker = %(worker)s AND (number, attempt) IN (
            SELECT * FROM unnest(%(orphans)s::bigint[], %(attempts)s::integer[]))))
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE lakemesh.invocations SET
        status = CASE WHEN cancel_requested THEN 'cancelled' WHEN attempt >= %(max_attempts)s THEN 'failed'
            ELSE 'queued' END,
        worker = NULL, available_at = now(), events = events + 1,
        dead = attempt >= %(max_attempts)s,
        error = CASE WHEN cancel_requested THEN %(cancelled)s::json
            WHEN attempt >= %(max_attempts)s THEN %(error)s::json END,
        ended_at = CASE WHEN cancel_requested OR attempt >= %(max_attempts)s THEN now() END
    FROM dead WHERE invocations.number = dead.number
    RETURNING invocations.number, invocations.attempt, status, events, error
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, CASE status WHEN 'queued' THEN 'interrupted' ELSE 'failed' END,
        coalesce(error, json_build_object('attempt', attempt))
    FROM changed
)
SELECT number, status, pg_notify('lakemesh', 'invocation/' || number) FROM changed
"""
FORGET_WORKERS = """
DELETE FROM lakemesh.workers WHERE heartbeat_at < now() - make_interval(secs => 10 * %(lease_seconds)s)
    AND NOT EXISTS (SELECT FROM lakemesh.invocations WHERE worker = workers.id AND status = 'running')
"""
EXPIRE = """
DELETE FROM lakemesh.invocations WHERE number IN (
    SELECT number FROM lakemesh.invocations
    WHERE ended_at < now() - make_interval(days => %(days)s) AND NOT dead ORDER BY ended_at LIMIT 1000)
"""

# What does not run ends at once; what runs is told to its worker.
CANCEL = """
WITH found AS (
    SELECT number, status FROM lakemesh.invocations WHERE owner = %(owner)s AND id = %(id)s FOR UPDATE
), changed AS (
    UPDATE lakemesh.invocations SET cancel_requested = true,
        status = CASE WHEN found.status = 'running' THEN 'running' ELSE 'cancelled' END,
        events = events + CASE WHEN found.status = 'running' THEN 0 ELSE 1 END,
        error = CASE WHEN found.status = 'running' THEN NULL ELSE %(error)s::json END,
        ended_at = CASE WHEN found.status = 'running' THEN NULL ELSE now() END
    FROM found WHERE invocations.number = found.number AND found.status IN ('queued', 'waiting', 'running')
    RETURNING invocations.number, invocations.attempt, invocations.status, events
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, 'failed', %(error)s::json FROM changed WHERE status = 'cancelled'
)
SELECT number, pg_notify('lakemesh', 'cancel/' || number), pg_notify('lakemesh', 'invocation/' || number) FROM changed
"""
REPLAY = """
UPDATE lakemesh.invocations SET status = 'queued', dead = false, error = NULL, ended_at = NULL, attempt = 0,
    available_at = now()
WHERE owner = %(owner)s AND id = %(id)s AND dead RETURNING number
"""
WAKE_WORKERS = "SELECT pg_notify('lakemesh', 'invocations')"
