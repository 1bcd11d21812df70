-- Drift
-- How executions differ from those of as long a time before: PSI above 0.25 is a shift; rises of rates; distances.
SELECT
  timestamp AS at,
  agent_id,
  name,
  round(value, 4) AS value
FROM {schema}.execution_drift
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
ORDER BY at DESC, agent_id, name
LIMIT 500
