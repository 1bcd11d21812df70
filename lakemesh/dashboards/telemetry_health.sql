-- Telemetry health
-- Records waiting, delivered and dropped, as the server reported them last.
SELECT
  name,
  coalesce(sum.attributes:reason::string, gauge.attributes:place::string, '') AS what,
  max_by(coalesce(sum.value, gauge.value), time) AS latest,
  max(coalesce(sum.value, gauge.value)) AS highest
FROM {schema}.metrics
WHERE time >= CAST(:start AS TIMESTAMP) AND time < CAST(:end AS TIMESTAMP) AND name LIKE 'lakemesh.telemetry.%'
GROUP BY name, coalesce(sum.attributes:reason::string, gauge.attributes:place::string, '')
ORDER BY name, what
