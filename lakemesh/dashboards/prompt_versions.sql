-- Prompt versions compared
-- How executions fared under each version of each prompt.
SELECT
  prompt,
  count(*) AS executions,
  round(count_if(NOT success) / count(*), 4) AS error_rate,
  round(avg(latency_ms), 1) AS average_ms,
  round(avg(confidence), 4) AS average_confidence,
  sum(output_tokens) AS output_tokens
FROM {schema}.telemetry LATERAL VIEW explode(prompts) AS prompt
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
GROUP BY prompt
ORDER BY prompt
