-- Tokens and cost
-- What each agent spends on each model.
SELECT
  coalesce(agent_id, 'outside of an execution') AS agent_id,
  model,
  count(*) AS calls,
  sum(input_tokens) AS input_tokens,
  sum(output_tokens) AS output_tokens,
  round(sum(cost_usd), 6) AS cost_usd,
  round(avg(latency_ms), 1) AS average_ms
FROM {schema}.model_inference_logs
WHERE timestamp >= CAST(:start AS TIMESTAMP) AND timestamp < CAST(:end AS TIMESTAMP)
GROUP BY coalesce(agent_id, 'outside of an execution'), model
ORDER BY cost_usd DESC, calls DESC, agent_id, model
