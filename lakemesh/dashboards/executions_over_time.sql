-- Executions over time
-- How many, how many failed, and the average and 95th percentile latency over time.
SELECT
  timestamp_seconds(CAST(floor(unix_timestamp(timestamp) / :bucket_seconds) AS BIGINT) * :bucket_seconds) AS at,
  count(*) AS executions,
  count_if(NOT success) AS failures,
  round(avg(latency_ms), 3) AS average_ms,
  round(percentile(latency_ms, 0.95), 3) AS p95_ms
FROM {schema}.telemetry
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
  AND parent_execution_id IS NULL AND NOT coalesce(refused, false)
GROUP BY 1
ORDER BY at
