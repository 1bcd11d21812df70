-- Tool use
-- Tools, and agents used as tools: how often, how long, how often in vain.
SELECT
  coalesce(attributes:`gen_ai.tool.name`::string, attributes:`gen_ai.agent.name`::string) AS tool,
  count(*) AS calls,
  count_if(status.code = 'STATUS_CODE_ERROR') AS failures,
  round(avg((end_time_unix_nano - start_time_unix_nano) / 1000000), 3) AS average_ms
FROM {schema}.traces
WHERE time >= CAST(:start AS TIMESTAMP) AND time < CAST(:end AS TIMESTAMP)
  AND kind = 'SPAN_KIND_INTERNAL' AND split_part(name, ' ', 1) IN ('execute_tool', 'invoke_agent')
GROUP BY coalesce(attributes:`gen_ai.tool.name`::string, attributes:`gen_ai.agent.name`::string)
ORDER BY calls DESC, tool
