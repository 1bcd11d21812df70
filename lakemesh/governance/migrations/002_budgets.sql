-- What was used of a budget's unit by a subject in the period that began at `begins_at` (Unix seconds; 0: no period), and
-- what is set aside. Amounts are whole numbers of the unit's parts. `owner` is the user whose account it is, or empty.
CREATE TABLE lakemesh.budget_accounts (
    budget text NOT NULL,
    unit text NOT NULL,
    subject text NOT NULL,
    begins_at bigint NOT NULL,
    ends_at bigint NOT NULL,
    owner text NOT NULL,
    spent bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (budget, unit, subject, begins_at)
);

-- What is set aside for an action that is under way. Its holder, a process, puts off its end while the action goes on;
-- what nobody puts off any longer is over: nobody knows what it used, so it counts as used, all but time.
CREATE TABLE lakemesh.budget_reservations (
    id uuid NOT NULL,
    budget text NOT NULL,
    unit text NOT NULL,
    subject text NOT NULL,
    begins_at bigint NOT NULL,
    amount bigint NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (id, budget, unit, subject, begins_at)
);
CREATE INDEX budget_reservations_expire ON lakemesh.budget_reservations (expires_at);

-- Accounts are locked in the order of their keys before anything is looked at, so that statements that share some wait
-- for each other and never for each other's rest. `asked` is a list of {id, place, budget, unit, subject, begins_at,
-- ends_at, owner, limit, amount, least}; what has one id is given whole or not at all.
CREATE FUNCTION lakemesh.reserve_budgets(asked json, holder uuid, lease_seconds float8)
RETURNS TABLE (id uuid, place integer, granted bigint, spent bigint, reserved bigint, refused boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    is_short boolean;
BEGIN
    INSERT INTO lakemesh.budget_accounts (budget, unit, subject, begins_at, ends_at, owner)
    SELECT DISTINCT ON (1, 2, 3, 4) budget, unit, subject, begins_at, ends_at, owner
    FROM json_to_recordset(asked)
        AS a(budget text, unit text, subject text, begins_at bigint, ends_at bigint, owner text)
    ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING;
    PERFORM FROM lakemesh.budget_accounts
    WHERE (budget, unit, subject, begins_at) IN (
        SELECT budget, unit, subject, begins_at
        FROM json_to_recordset(asked) AS a(budget text, unit text, subject text, begins_at bigint))
    ORDER BY budget, unit, subject, begins_at
    FOR UPDATE;
    FOR one IN
        SELECT (item->>'id')::uuid AS id, json_agg(item) AS items
        FROM json_array_elements(asked) WITH ORDINALITY AS listed(item, number)
        GROUP BY 1 ORDER BY min(number)
    LOOP
        SELECT bool_or(a."limit" - c.spent - c.reserved < a.least) INTO is_short
        FROM json_to_recordset(one.items)
            AS a(budget text, unit text, subject text, begins_at bigint, "limit" bigint, least bigint)
        JOIN lakemesh.budget_accounts AS c USING (budget, unit, subject, begins_at);
        IF NOT is_short THEN
            WITH given AS (
                SELECT budget, unit, subject, begins_at,
                    least(a.amount, min(a."limit" - c.spent - c.reserved) OVER (PARTITION BY unit)) AS amount
                FROM json_to_recordset(one.items)
                    AS a(budget text, unit text, subject text, begins_at bigint, "limit" bigint, amount bigint)
                JOIN lakemesh.budget_accounts AS c USING (budget, unit, subject, begins_at)
            ), kept AS (
                INSERT INTO lakemesh.budget_reservations
                    (id, budget, unit, subject, begins_at, amount, holder, expires_at)
                SELECT one.id, budget, unit, subject, begins_at, amount, reserve_budgets.holder,
                    now() + make_interval(secs => lease_seconds)
                FROM given
            )
            UPDATE lakemesh.budget_accounts AS c SET reserved = c.reserved + given.amount, changed_at = now()
            FROM given
            WHERE (c.budget, c.unit, c.subject, c.begins_at)
                = (given.budget, given.unit, given.subject, given.begins_at);
        END IF;
        RETURN QUERY
        SELECT one.id, a.place, coalesce(r.amount, 0), c.spent, c.reserved, is_short
        FROM json_to_recordset(one.items)
            AS a(place integer, budget text, unit text, subject text, begins_at bigint)
        JOIN lakemesh.budget_accounts AS c USING (budget, unit, subject, begins_at)
        LEFT JOIN lakemesh.budget_reservations AS r
            ON (r.id, r.budget, r.unit, r.subject, r.begins_at)
                = (one.id, a.budget, a.unit, a.subject, a.begins_at);
    END LOOP;
END $$;

-- `used` is a list of {id, budget, unit, subject, begins_at, amount}. What is not set aside any longer was settled before,
-- or is over: it is settled once.
CREATE FUNCTION lakemesh.settle_budgets(used json) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    settled integer;
BEGIN
    PERFORM FROM lakemesh.budget_accounts
    WHERE (budget, unit, subject, begins_at) IN (
        SELECT budget, unit, subject, begins_at
        FROM json_to_recordset(used) AS u(budget text, unit text, subject text, begins_at bigint))
    ORDER BY budget, unit, subject, begins_at
    FOR UPDATE;
    WITH gone AS (
        DELETE FROM lakemesh.budget_reservations AS r
        USING json_to_recordset(used)
            AS u(id uuid, budget text, unit text, subject text, begins_at bigint, amount bigint)
        WHERE (r.id, r.budget, r.unit, r.subject, r.begins_at) = (u.id, u.budget, u.unit, u.subject, u.begins_at)
        RETURNING r.budget, r.unit, r.subject, r.begins_at, r.amount AS reserved, u.amount AS spent
    ), summed AS (
        SELECT budget, unit, subject, begins_at, sum(reserved) AS reserved, sum(spent) AS spent
        FROM gone GROUP BY 1, 2, 3, 4
    )
    UPDATE lakemesh.budget_accounts AS c
    SET reserved = c.reserved - summed.reserved, spent = c.spent + summed.spent, changed_at = now()
    FROM summed
    WHERE (c.budget, c.unit, c.subject, c.begins_at) = (summed.budget, summed.unit, summed.subject, summed.begins_at);
    GET DIAGNOSTICS settled = ROW_COUNT;
    RETURN settled;
END $$;

-- What nobody puts off any longer counts as used, all but time. How many reservations there were.
CREATE FUNCTION lakemesh.expire_budgets() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    found json;
BEGIN
    SELECT json_agg(json_build_object('id', id, 'budget', budget, 'unit', unit, 'subject', subject,
        'begins_at', begins_at, 'amount', CASE unit WHEN 'run_seconds' THEN 0 ELSE amount END))
    INTO found
    FROM (
        SELECT * FROM lakemesh.budget_reservations WHERE expires_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED) AS over;
    IF found IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM lakemesh.settle_budgets(found);
    RETURN json_array_length(found);
END $$;
