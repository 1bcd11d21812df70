-- Arrays, maps, structs, lambda functions, JSON and VARIANT.
array(1, 2, 3), array(), array(1, NULL), array('a', 'b')
array(1, 2, 3)[0]
array(1, 2, 3)[3]
array(1, 2)[-1]
element_at(array(1, 2, 3), 1), element_at(array(1, 2, 3), -1)
element_at(array(1, 2, 3), 5)
try_element_at(array(1, 2, 3), 5), get(array(1, 2), 5), get(array(1, 2), 0)
size(array(1, 2)), size(NULL), cardinality(array(1)), array_size(array(1, 2, 3))
array_contains(array(1, 2), 2), array_contains(array(1, NULL), 2), array_position(array('a', 'b'), 'b'), array_position(array(1), 9)
array_distinct(array(1, 2, 1)), array_union(array(1, 2), array(2, 3)), array_intersect(array(1, 2), array(2, 3)), array_except(array(1, 2), array(2))
array_join(array('a', NULL, 'b'), ','), array_join(array('a', NULL, 'b'), ',', '?')
array_max(array(1, 3, 2)), array_min(array(3, NULL, 1)), array_sort(array(3, 1, NULL, 2)), sort_array(array(3, 1, NULL, 2)), sort_array(array(3, 1, NULL, 2), false)
array_append(array(1), 2), array_prepend(array(1), 0), array_insert(array(1, 3), 2, 2), array_remove(array(1, 2, 1), 1), array_compact(array(1, NULL, 2))
array_repeat('a', 3), flatten(array(array(1), array(2, 3))), slice(array(1, 2, 3, 4), 2, 2), slice(array(1, 2, 3), -2, 2), reverse(array(1, 2, 3))
arrays_overlap(array(1, 2), array(2, 3)), arrays_zip(array(1, 2), array('a', 'b'))
sequence(1, 5), sequence(5, 1), sequence(1, 10, 3), sequence(1L, 3L)
concat(array(1), array(2, 3)), array(1, 2) = array(1, 2), array(1, 2) < array(1, 3)
shuffle(array(1)) = array(1)
transform(array(1, 2, 3), x -> x * 2), transform(array('a', 'b'), (x, i) -> concat(x, i))
filter(array(1, 2, 3), x -> x > 1), filter(array(1, 2, 3), (x, i) -> i > 0)
exists(array(1, 2), x -> x > 1), forall(array(1, 2), x -> x > 1)
exists(array(1, NULL), x -> x > 1)
aggregate(array(1, 2, 3), 0, (acc, x) -> acc + x), aggregate(array(1, 2, 3), 0, (acc, x) -> acc + x, acc -> acc * 10), reduce(array(1, 2), 0, (a, x) -> a + x)
zip_with(array(1, 2), array(3, 4), (x, y) -> x + y)
array_sort(array(3, 1, 2), (a, b) -> CASE WHEN a < b THEN 1 WHEN a > b THEN -1 ELSE 0 END)
map('a', 1, 'b', 2), map(), map_from_arrays(array('a', 'b'), array(1, 2)), map_from_entries(array(struct('a', 1)))
map('a', 1)['a'], map('a', 1)['z'], element_at(map('a', 1), 'a'), element_at(map('a', 1), 'z')
map_keys(map('a', 1, 'b', 2)), map_values(map('a', 1, 'b', 2)), map_entries(map('a', 1)), size(map('a', 1)), map_contains_key(map('a', 1), 'a')
map_concat(map('a', 1), map('b', 2)), map_filter(map('a', 1, 'b', 2), (k, v) -> v > 1)
transform_keys(map('a', 1), (k, v) -> upper(k)), transform_values(map('a', 1), (k, v) -> v + 1), map_zip_with(map('a', 1), map('a', 2), (k, x, y) -> x + y)
map('a', 1, 'a', 2)
named_struct('a', 1, 'b', 'x'), struct(1, 'x'), named_struct('a', 1).a, struct(1 AS a, 2 AS b).b
named_struct('a', 1) = named_struct('a', 1), named_struct('a', named_struct('b', 2)).a.b
array(named_struct('a', 1), named_struct('a', 2)).a
SELECT id, explode(tags) AS tag FROM main.corpus.sales ORDER BY id, tag
SELECT id, posexplode(tags) FROM main.corpus.sales ORDER BY id, pos
SELECT id, explode_outer(tags) AS tag FROM main.corpus.sales ORDER BY id, tag
SELECT explode(map('a', 1, 'b', 2))
SELECT explode(map('a', 1, 'b', 2)) AS (k, v)
SELECT inline(array(struct(1 AS a, 'x' AS b), struct(2 AS a, 'y' AS b)))
SELECT stack(2, 1, 'a', 2, 'b')
SELECT stack(2, 1, 'a', 2, 'b') AS (n, t)
SELECT json_tuple('{"a": 1, "b": "x"}', 'a', 'b')
SELECT s.id, t.tag FROM main.corpus.sales s LATERAL VIEW explode(s.tags) t AS tag ORDER BY 1, 2
SELECT s.id, t.tag FROM main.corpus.sales s LATERAL VIEW OUTER explode(s.tags) t AS tag ORDER BY 1, 2
SELECT s.id, p, tag FROM main.corpus.sales s LATERAL VIEW posexplode(s.tags) t AS p, tag ORDER BY 1, 2
SELECT id, k, v FROM main.corpus.sales LATERAL VIEW explode(props) AS k, v ORDER BY id, k
SELECT tag, count(*) AS n FROM main.corpus.sales LATERAL VIEW explode(tags) AS tag GROUP BY tag ORDER BY n DESC, tag
SELECT s.id, e.col FROM main.corpus.sales s, LATERAL explode(s.tags) AS e ORDER BY 1, 2
SELECT * FROM explode(array(1, 2)) AS t(x)
SELECT * FROM posexplode(array('a', 'b'))
SELECT * FROM range(3)
SELECT id * 2 AS d FROM range(2, 10, 3)
SELECT * FROM VALUES (1, 'a'), (2, 'b') AS t(n, s)
SELECT col1, col2 FROM VALUES (1, 'a'), (2, NULL)
SELECT id, address.city, address.zip FROM main.corpus.sales ORDER BY id
SELECT address.* FROM main.corpus.sales ORDER BY zip NULLS LAST
SELECT id, props['color'], map_keys(props), size(tags) FROM main.corpus.sales ORDER BY id
SELECT id, tags[0] FROM main.corpus.sales WHERE size(tags) > 0 ORDER BY id
SELECT id, transform(tags, t -> upper(t)) FROM main.corpus.sales ORDER BY id
SELECT id, filter(tags, t -> t LIKE 'n%') FROM main.corpus.sales ORDER BY id
SELECT collect_list(quantity), sort_array(collect_set(region)), array_agg(id) FROM (SELECT * FROM main.corpus.sales ORDER BY id)
SELECT region, collect_list(item) FROM (SELECT * FROM main.corpus.sales ORDER BY id) GROUP BY region ORDER BY region
SELECT id FROM main.corpus.sales WHERE array_contains(tags, 'new') ORDER BY id
SELECT id FROM main.corpus.sales WHERE exists(tags, t -> t = 'new') ORDER BY id
SELECT map_from_entries(collect_list(struct(item, quantity))) FROM (SELECT * FROM main.corpus.sales WHERE id IN (1, 2) ORDER BY id)
-- JSON
get_json_object('{"a": {"b": 1}}', '$.a.b'), get_json_object('{"a": [1, 2]}', '$.a[1]'), get_json_object('{"a": "x"}', '$.a'), get_json_object('{"a": 1}', '$.z')
get_json_object('{"a": [1, 2]}', '$.a'), get_json_object('{"a": {"b": 1}}', '$.a'), get_json_object('{"a": null}', '$.a'), get_json_object('no json', '$.a')
get_json_object('{"k": "v"}', '$."k"'), get_json_object('{"k.x": "v"}', "$['k.x']"), get_json_object('{"a": [{"b": 1}, {"b": 2}]}', '$.a[*].b')
get_json_object('{"a": true, "b": 1.50, "c": "q\\"q"}', '$.a'), get_json_object('{"b": 1.50}', '$.b')
from_json('{"a": 1, "b": "x"}', 'a INT, b STRING')
from_json('{"a": 1, "b": "x"}', 'STRUCT<a: INT, b: STRING>').b, from_json('[1, 2]', 'ARRAY<INT>'), from_json('{"a": 1}', 'MAP<STRING, INT>')
from_json('no json', 'a INT')
to_json(named_struct('a', 1, 'b', 'x')), to_json(array(1, 2)), to_json(map('a', 1)), to_json(named_struct('t', timestamp'2024-01-01 00:00:00', 'd', date'2024-01-01', 'n', NULL))
json_array_length('[1, 2, 3]'), json_object_keys('{"a": 1, "b": 2}'), schema_of_json('{"a": 1, "b": [1.5]}')
parse_json('{"a": 1, "b": [1, "x"]}')
variant_get(parse_json('{"a": 1}'), '$.a', 'int'), variant_get(parse_json('{"a": "x"}'), '$.a', 'string'), variant_get(parse_json('{"a": 1}'), '$.z', 'int')
variant_get(parse_json('{"a": [1, 2.5]}'), '$.a[1]', 'double'), try_variant_get(parse_json('{"a": "x"}'), '$.a', 'int')
variant_get(parse_json('{"a": "x"}'), '$.a', 'int')
cast(parse_json('"text"') AS STRING), cast(parse_json('1') AS INT), cast(parse_json('{"a": 1}') AS STRING), parse_json('{"b":2,  "a":1}')
try_parse_json('no json'), is_variant_null(parse_json('null'))
parse_json('no json')
schema_of_variant(parse_json('{"a": 1}')), typeof(parse_json('1'))
SELECT id, get_json_object(facts, '$.size') AS size, get_json_object(facts, '$.dims.w') AS w FROM main.corpus.sales ORDER BY id
SELECT id, from_json(facts, 'size STRING, n INT').n FROM main.corpus.sales ORDER BY id
SELECT id FROM main.corpus.sales WHERE get_json_object(facts, '$.size') = 'L' ORDER BY id
SELECT id, variant_get(payload, '$.kind', 'string') AS kind FROM main.corpus.events ORDER BY id
SELECT variant_get(payload, '$.user.name', 'string') AS name, count(*) FROM main.corpus.events GROUP BY ALL ORDER BY 1
SELECT sum(variant_get(payload, '$.n', 'int')) FROM main.corpus.events
SELECT id, payload FROM main.corpus.events ORDER BY id
SELECT id, cast(variant_get(payload, '$.n') AS DOUBLE), cast(variant_get(payload, '$.kind') AS STRING) FROM main.corpus.events ORDER BY id
SELECT id, try_variant_get(payload, '$.user', 'string'), variant_get(payload, "$['a.b']", 'string') FROM main.corpus.events ORDER BY id
SELECT id FROM main.corpus.events WHERE variant_get(payload, '$.kind', 'string') = 'click' AND variant_get(payload, '$.n', 'double') > 1 ORDER BY id
SELECT variant_get(payload, '$.tags', 'array<string>') FROM main.corpus.events WHERE id = 1
