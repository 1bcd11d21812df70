-- Error rate by agent
-- Which agents fail, how often, and with which error most.
SELECT
  agent_id,
  count(*) AS executions,
  count_if(NOT success) AS failures,
  round(count_if(NOT success) / count(*), 4) AS error_rate,
  mode(error_code) AS most_frequent_error
FROM {schema}.telemetry
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
  AND parent_execution_id IS NULL AND NOT coalesce(refused, false)
GROUP BY agent_id
ORDER BY error_rate DESC, agent_id
