-- Precision by day, as labels come in
-- How many of the highest scores of a day turned out to be what the agent said, as far as it is known.
SELECT
  agent_id,
  day,
  executions,
  labelled,
  positives,
  round(precision_at_top, 4) AS precision_at_top,
  top,
  round(auc_roc, 4) AS auc_roc
FROM (
  SELECT *, row_number() OVER (PARTITION BY agent_id, day ORDER BY computed_at DESC) AS place
  FROM {schema}.label_precision
  WHERE computed_at >= CAST(:start AS TIMESTAMP) AND computed_at < CAST(:end AS TIMESTAMP)
) AS computed
WHERE place = 1
ORDER BY agent_id, day
