-- Memory
-- What is known of users, and what the consolidation of memories merged, forgot, mended and summarised.
SELECT
  name,
  coalesce(sum.attributes:what::string, gauge.attributes:what::string, '') AS what,
  max_by(coalesce(sum.value, gauge.value), time) AS latest,
  max(coalesce(sum.value, gauge.value)) AS highest
FROM {schema}.metrics
WHERE time >= CAST(:start AS TIMESTAMP) AND time < CAST(:end AS TIMESTAMP) AND name LIKE 'lakemesh.memory.%'
GROUP BY name, coalesce(sum.attributes:what::string, gauge.attributes:what::string, '')
ORDER BY name, what
