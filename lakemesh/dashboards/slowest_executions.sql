-- Slowest executions
-- The fifty that took longest, with the trace to look into.
SELECT timestamp, agent_id, round(latency_ms, 1) AS took_ms, success, error_code, trace_id, execution_id
FROM {schema}.telemetry
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
ORDER BY latency_ms DESC, execution_id
LIMIT 50
