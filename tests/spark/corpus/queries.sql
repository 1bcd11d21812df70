-- Whole queries: joins, windows, grouping, set operations, pivots, common table expressions, order of NULL.
SELECT * FROM main.corpus.sales ORDER BY id
SELECT id, item FROM main.corpus.sales ORDER BY rating, id
SELECT id, rating FROM main.corpus.sales ORDER BY rating DESC, id
SELECT id, rating FROM main.corpus.sales ORDER BY rating ASC NULLS LAST, id DESC
SELECT id, rating FROM main.corpus.sales ORDER BY rating DESC NULLS FIRST, id LIMIT 3
SELECT id FROM main.corpus.sales ORDER BY id LIMIT 3 OFFSET 2
SELECT DISTINCT region FROM main.corpus.sales ORDER BY region
SELECT region, count(*) AS n FROM main.corpus.sales GROUP BY 1 ORDER BY 2 DESC, 1
SELECT region, item, sum(quantity) FROM main.corpus.sales GROUP BY region, item WITH ROLLUP ORDER BY 1, 2, 3
SELECT region, item, sum(quantity) FROM main.corpus.sales GROUP BY CUBE (region, item) ORDER BY 1, 2, 3
SELECT region, item, sum(quantity), grouping(region), grouping_id(region, item) FROM main.corpus.sales GROUP BY GROUPING SETS ((region), (item), ()) ORDER BY 1, 2, 3
SELECT region, count(*) FROM main.corpus.sales GROUP BY ALL ORDER BY ALL
SELECT id, row_number() OVER (PARTITION BY region ORDER BY price DESC, id) AS r FROM main.corpus.sales ORDER BY id
SELECT id, rank() OVER (ORDER BY rating), dense_rank() OVER (ORDER BY rating), percent_rank() OVER (ORDER BY rating), cume_dist() OVER (ORDER BY rating), ntile(3) OVER (ORDER BY id) FROM main.corpus.sales ORDER BY id
SELECT id, lag(price) OVER (ORDER BY id), lead(price, 2) OVER (ORDER BY id), lag(price, 1, 0.00) OVER (ORDER BY id) FROM main.corpus.sales ORDER BY id
SELECT id, sum(quantity) OVER (ORDER BY id) AS running, avg(quantity) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS moving FROM main.corpus.sales ORDER BY id
SELECT id, first_value(item) OVER w, last_value(item) OVER w, nth_value(item, 2) OVER w FROM main.corpus.sales WINDOW w AS (PARTITION BY region ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) ORDER BY id
SELECT id, last_value(rating) IGNORE NULLS OVER (ORDER BY id) AS filled FROM main.corpus.sales ORDER BY id
SELECT id, sum(quantity) OVER (ORDER BY day RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND CURRENT ROW) AS week FROM main.corpus.sales ORDER BY id
SELECT region, item, price FROM main.corpus.sales QUALIFY row_number() OVER (PARTITION BY region ORDER BY price DESC, id) = 1 ORDER BY region
SELECT id, sum(price) OVER (PARTITION BY region) AS total FROM main.corpus.sales QUALIFY total > 30 ORDER BY id
SELECT count(*) OVER () AS n, id FROM main.corpus.sales ORDER BY id LIMIT 2
SELECT p.name, m.name AS manager FROM main.corpus.people p LEFT JOIN main.corpus.people m ON p.manager = m.id ORDER BY p.id
SELECT p.name, m.name AS manager FROM main.corpus.people p JOIN main.corpus.people m ON p.manager = m.id ORDER BY p.id
SELECT p.id, s.id FROM main.corpus.people p RIGHT JOIN main.corpus.sales s ON p.id = s.id ORDER BY 2
SELECT p.id, s.id FROM main.corpus.people p FULL OUTER JOIN main.corpus.sales s ON p.id = s.id + 3 ORDER BY 1, 2
SELECT name FROM main.corpus.people p LEFT SEMI JOIN main.corpus.sales s ON p.id = s.id ORDER BY name
SELECT name FROM main.corpus.people p LEFT ANTI JOIN main.corpus.people m ON p.id = m.manager ORDER BY name
SELECT id, name, item FROM main.corpus.people JOIN main.corpus.sales USING (id) ORDER BY id
SELECT id, name, item FROM main.corpus.people NATURAL JOIN (SELECT id, item FROM main.corpus.sales) ORDER BY id
SELECT p.name, r.region FROM main.corpus.people p CROSS JOIN (SELECT DISTINCT region FROM main.corpus.sales) r ORDER BY 1, 2
SELECT p.name, t.n FROM main.corpus.people p, LATERAL (SELECT count(*) AS n FROM main.corpus.sales s WHERE s.id <= p.id) t ORDER BY p.id
SELECT p.name, t.item FROM main.corpus.people p LEFT JOIN LATERAL (SELECT item FROM main.corpus.sales s WHERE s.id = p.id) t ON true ORDER BY p.id
SELECT name, (SELECT max(price) FROM main.corpus.sales s WHERE s.id = p.id) AS most FROM main.corpus.people p ORDER BY id
SELECT name FROM main.corpus.people WHERE id IN (SELECT id FROM main.corpus.sales WHERE price > 10) ORDER BY 1
SELECT name FROM main.corpus.people p WHERE EXISTS (SELECT 1 FROM main.corpus.sales s WHERE s.id = p.id AND s.quantity > 2) ORDER BY 1
SELECT name FROM main.corpus.people p WHERE NOT EXISTS (SELECT 1 FROM main.corpus.people m WHERE m.manager = p.id) ORDER BY 1
SELECT name FROM main.corpus.people WHERE manager NOT IN (SELECT manager FROM main.corpus.people WHERE manager IS NOT NULL) ORDER BY 1
SELECT id FROM main.corpus.sales UNION SELECT id FROM main.corpus.people ORDER BY id
SELECT id FROM main.corpus.people UNION ALL SELECT id FROM main.corpus.people ORDER BY id
SELECT id FROM main.corpus.people INTERSECT SELECT id FROM main.corpus.sales ORDER BY id
SELECT id FROM main.corpus.sales EXCEPT SELECT id FROM main.corpus.people ORDER BY id
SELECT id FROM main.corpus.sales MINUS SELECT id FROM main.corpus.people ORDER BY id
SELECT 1 AS a UNION ALL SELECT 2.5
SELECT NULL AS a UNION ALL SELECT 1 ORDER BY a
WITH t AS (SELECT region, sum(price) AS s FROM main.corpus.sales GROUP BY region) SELECT * FROM t WHERE s > 5 ORDER BY region
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
WITH t(a, b) AS (SELECT 1, 2) SELECT a + b FROM t
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r ORDER BY n
WITH RECURSIVE boss AS (SELECT id, name, 0 AS depth FROM main.corpus.people WHERE manager IS NULL UNION ALL SELECT p.id, p.name, b.depth + 1 FROM main.corpus.people p JOIN boss b ON p.manager = b.id) SELECT * FROM boss ORDER BY id
SELECT * FROM (SELECT region, item, quantity FROM main.corpus.sales) PIVOT (sum(quantity) FOR region IN ('north', 'south')) ORDER BY item
SELECT * FROM (SELECT region, item, quantity FROM main.corpus.sales) PIVOT (sum(quantity) AS q, count(*) AS n FOR region IN ('north' AS n, 'south' AS s)) ORDER BY item
SELECT * FROM (SELECT id, quantity, cast(rating AS INT) AS rating FROM main.corpus.sales) UNPIVOT (value FOR name IN (quantity, rating)) ORDER BY id, name
SELECT * FROM (SELECT id, quantity, cast(rating AS INT) AS rating FROM main.corpus.sales) UNPIVOT INCLUDE NULLS (value FOR name IN (quantity AS q, rating AS r)) ORDER BY id, name
SELECT * EXCEPT (facts, props, tags, address) FROM main.corpus.sales ORDER BY id
SELECT s.* EXCEPT (s.facts) FROM main.corpus.sales s ORDER BY s.id
SELECT id AS a, a + 1 AS b, b * 2 AS c FROM main.corpus.people ORDER BY id
SELECT sum(salary) AS total, total / 2 AS half FROM main.corpus.people
SELECT id, CASE WHEN active THEN 'yes' WHEN NOT active THEN 'no' ELSE 'unknown' END AS state FROM main.corpus.people ORDER BY id
SELECT count(*), count(1), max(id) + 1, 'x', sum(salary) FROM main.corpus.people
SELECT upper(name), id + 1, -id, id IS NULL, cast(id AS STRING) FROM main.corpus.people ORDER BY id
SELECT `name` AS `full name`, id AS `1st` FROM main.corpus.people ORDER BY id
SELECT People.Name FROM main.corpus.people AS People ORDER BY NAME
SELECT name FROM main.corpus.people WHERE active ORDER BY name
SELECT name FROM main.corpus.people WHERE NOT active OR active IS NULL ORDER BY name
SELECT name, salary FROM main.corpus.people WHERE salary > (SELECT avg(salary) FROM main.corpus.people) ORDER BY id
SELECT active, avg(salary) FROM main.corpus.people GROUP BY active ORDER BY active
SELECT year(born) AS y, count(*) FROM main.corpus.people GROUP BY year(born) ORDER BY y
SELECT count(DISTINCT region, item) FROM main.corpus.sales
SELECT region, max(price) FILTER (WHERE quantity > 1) AS m FROM main.corpus.sales GROUP BY region ORDER BY region
SELECT item, sum(quantity) AS q FROM main.corpus.sales GROUP BY item HAVING count(*) > 1 ORDER BY q DESC
SELECT * FROM main.corpus.people TABLESAMPLE (100 PERCENT) ORDER BY id
FROM main.corpus.people SELECT name ORDER BY name
VALUES (1, 'a'), (2, 'b')
SELECT nope FROM main.corpus.people
SELECT * FROM main.corpus.nope
SELECT no_such_function(1)
SELECT id, sum(salary) FROM main.corpus.people
SELECT id FROM main.corpus.people WHERE sum(salary) > 1
SELECT (SELECT id FROM main.corpus.people)
SELECT id FROM main.corpus.people UNION SELECT id, name FROM main.corpus.people
SELECT a.id FROM main.corpus.people a JOIN main.corpus.people b ON a.id = b.id WHERE id = 1
SELECT 1 WHERE 1 = 2
SELECT 1 AS a, 2 AS a
SELECT * FROM (SELECT 1 AS a) x, (SELECT 2 AS a) y
SELECT date_trunc('DAY', sold_at) AS d, sum(price) AS s, sum(sum(price)) OVER (ORDER BY date_trunc('DAY', sold_at)) AS running FROM main.corpus.sales GROUP BY 1 ORDER BY 1
SELECT region, price, price / sum(price) OVER (PARTITION BY region) AS share FROM main.corpus.sales ORDER BY id
SELECT region, count(*) * 100.0 / sum(count(*)) OVER () AS percent FROM main.corpus.sales GROUP BY region ORDER BY region
SELECT item, price - lag(price) OVER (PARTITION BY item ORDER BY sold_at) AS change FROM main.corpus.sales ORDER BY id
SELECT m.month, coalesce(n, 0) AS n FROM (SELECT explode(sequence(date'2024-01-01', date'2024-04-01', interval 1 month)) AS month) m LEFT JOIN (SELECT trunc(day, 'MM') AS month, count(*) AS n FROM main.corpus.sales GROUP BY 1) c ON m.month = c.month ORDER BY 1
SELECT width_bucket(price, 0, 50, 5) AS bucket, count(*) FROM main.corpus.sales GROUP BY 1 ORDER BY 1
SELECT id, session_window.start FROM (SELECT id, session_window(sold_at, '1 day') AS session_window FROM main.corpus.sales GROUP BY id, session_window(sold_at, '1 day')) ORDER BY id
SELECT id FROM main.corpus.sales |> WHERE id > 5 |> ORDER BY id
