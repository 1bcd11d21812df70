-- Quality by prompt version and model
-- What scorers gave executions in production, by day, metric, prompt version and model.
SELECT
  timestamp_seconds(CAST(floor(unix_timestamp(timestamp) / 86400) AS BIGINT) * 86400) AS day,
  agent_id,
  metric,
  coalesce(array_join(prompts, ', '), '') AS prompts,
  coalesce(array_join(models, ', '), '') AS models,
  count(value) AS executions,
  round(avg(value), 4) AS mean,
  count(error) AS unmeasured
FROM (
  SELECT *, row_number() OVER (PARTITION BY execution_id, metric ORDER BY scored_at DESC) AS place
  FROM {schema}.execution_scores
  WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
) AS scores
WHERE place = 1
GROUP BY 1, 2, 3, 4, 5
ORDER BY day, agent_id, metric, prompts, models
