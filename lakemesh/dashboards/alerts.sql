-- Alerts
-- What the agent anomaly found unusual in the tables it watches, how far from what was expected, and what it proposes.
SELECT
  created_at AS at,
  severity,
  watch,
  `check`,
  source_table,
  bucket_start,
  round(value, 4) AS value,
  round(expected, 4) AS expected,
  round(score, 2) AS score,
  explanation,
  proposal,
  notified_at
FROM {schema}.alerts
WHERE created_at >= CAST(:start AS TIMESTAMP) AND created_at < CAST(:end AS TIMESTAMP)
ORDER BY at DESC
LIMIT 500
