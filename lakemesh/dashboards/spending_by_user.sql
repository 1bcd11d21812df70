-- Spending by user
-- What each user's models cost a day, and how often a budget was in the way.
SELECT
  day,
  user_id,
  sum(steps) AS model_calls,
  sum(tokens) AS tokens,
  round(sum(cost_usd), 6) AS cost_usd,
  sum(refused) AS refused
FROM (
  SELECT
    CAST(timestamp AS DATE) AS day,
    coalesce(user_id, 'nobody') AS user_id,
    1 AS steps,
    input_tokens + output_tokens AS tokens,
    cost_usd,
    0 AS refused
  FROM {schema}.model_inference_logs
  WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
  UNION ALL
  SELECT
    CAST(timestamp AS DATE) AS day,
    coalesce(user_id, 'nobody') AS user_id,
    0 AS steps,
    0 AS tokens,
    0.0 AS cost_usd,
    1 AS refused
  FROM {schema}.telemetry
  WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
    AND error_code = 'budget_exceeded' AND parent_execution_id IS NULL
) AS used
GROUP BY day, user_id
ORDER BY day DESC, cost_usd DESC, user_id
