-- Casts, integers, decimals, doubles: values, types and errors.
1 + 1, 1 + 1L, 1 + 1.5, 1 + 1.5D, 1.5 + 2.25
7 / 2, 7 div 2, 7 % 2, -7 % 3, -7 div 2, mod(-7, 3), pmod(-7, 3)
1 / 0
1.0 / 0
1 % 0
1 div 0
1.0D / 0
try_divide(1, 0), try_divide(1, 2), try_add(1, 2), try_subtract(1, 2), try_multiply(2, 3)
try_add(2147483647, 1), try_mod(1, 0)
2147483647 + 1
9223372036854775807L + 1
cast(300 AS TINYINT)
try_cast(300 AS TINYINT)
cast(3.7 AS INT), cast(-3.7 AS INT), int(3.9), bigint(2.5D), cast(1e3 AS INT)
cast('12' AS INT), cast(' 12 ' AS INT)
cast('12.7' AS INT)
cast('abc' AS INT)
try_cast('12.7' AS INT), try_cast('abc' AS DOUBLE), try_cast('1e3' AS DOUBLE), try_cast('' AS INT)
cast('1e3' AS DOUBLE), cast('NaN' AS DOUBLE), cast('Infinity' AS DOUBLE), double('1.5')
cast('1.239' AS DECIMAL(10, 2)), cast(1.235 AS DECIMAL(10, 2)), cast(2.5 AS DECIMAL(10, 0))
cast(12345.67 AS DECIMAL(4, 1))
cast('true' AS BOOLEAN), cast('no' AS BOOLEAN), cast(0 AS BOOLEAN), cast(true AS INT), boolean('1')
cast('maybe' AS BOOLEAN)
cast(1 AS BIGINT), cast(1 AS SMALLINT), cast(1 AS TINYINT), cast(1 AS FLOAT), cast(1 AS DECIMAL(5, 2))
1S, 1Y, 1L, 1.5BD, 1.5F, 1e2, .5, 1.
1.10 + 2.2, 1.5 * 2.25, 10.00 / 3, 1.0 / 3.0, 2.50 - 1
cast(1 AS DECIMAL(38, 10)) * cast(3 AS DECIMAL(38, 10))
cast(10 AS DECIMAL(10, 2)) / cast(3 AS DECIMAL(10, 2))
cast(7.5 AS DECIMAL(4, 2)) % 2
1.1 = 1.10, 0.1 + 0.2 = 0.3, 0.1D + 0.2D = 0.3D
round(2.5), round(-2.5), round(3.14159, 2), round(1250, -2), round(2.5D), bround(2.5), bround(3.5)
round(cast(2.675 AS DECIMAL(10, 3)), 2)
ceil(1.2), ceil(-1.2), floor(-1.2), ceil(1.25D), floor(1.99), ceiling(5), ceil(3.1411, 2), floor(3.1411, 2)
abs(-5), abs(-5.5), sign(-3), signum(2.5), negative(3), positive(3), -(-3)
sqrt(16), cbrt(27), pow(2, 10), power(2, 0.5), exp(0), ln(1), log(10, 100), log10(1000), log2(8), log1p(0), expm1(0)
sqrt(-1), ln(0), ln(-1)
sin(0), cos(0), tan(0), asin(0), acos(1), atan(1), atan2(1, 1), degrees(pi()), radians(180), e(), pi()
sinh(0), cosh(0), tanh(0), cot(1), sec(0), csc(1), hypot(3, 4)
greatest(1, 2.5, NULL), least(3, 1, 2), greatest(NULL, NULL)
factorial(5), bin(10), conv('ff', 16, 10), conv('10', 2, 16)
width_bucket(5.3, 0.2, 10.6, 5)
bit_count(7), 5 & 3, 5 | 3, 5 ^ 3, ~5, shiftleft(1, 3), shiftright(-8, 1), shiftrightunsigned(8, 1), 1 << 4
bit_get(11, 0), getbit(11, 2)
isnan(cast('NaN' AS DOUBLE)), nanvl(cast('NaN' AS DOUBLE), 1.0D), cast('NaN' AS DOUBLE) = cast('NaN' AS DOUBLE), cast('NaN' AS DOUBLE) > 1e308
1 = '1', 1 < '2', '10' > 9, 1.5 = '1.5'
1 = 'a'
'1' + 1, '1.5' * 2
true = 1
NULL + 1, NULL = NULL, NULL <=> NULL, 1 <=> NULL, NULL IS NULL, 1 IS NOT NULL, NULL AND false, NULL OR true
1 IN (1, NULL), 2 IN (1, NULL), 2 NOT IN (1, NULL)
1 IS DISTINCT FROM NULL, NULL IS NOT DISTINCT FROM NULL
true AND NOT false
1 BETWEEN 0 AND 2, 5 NOT BETWEEN 0 AND 2
CASE WHEN 1 > 2 THEN 'a' END, CASE 1 WHEN 1 THEN 'one' ELSE 'x' END, CASE WHEN true THEN 1 ELSE 2.5 END
if(1 > 0, 1, 2.5), decode(2, 1, 'a', 2, 'b', 'c'), nullif(1, 1), zeroifnull(NULL), nullifzero(0)
typeof(1), typeof(1L), typeof(1.5), typeof(1.5D), typeof('a'), typeof(true), typeof(NULL), typeof(array(1)), typeof(map('a', 1)), typeof(named_struct('a', 1))
typeof(1 / 2), typeof(1 + 1L), typeof(1.5 * 2), typeof(1 div 1), typeof(sqrt(4)), typeof(round(1.5)), typeof(abs(-1))
hex(-1), unhex('F'), cast(X'01' AS STRING)
X'1F', length(X'1F2E')
ceil(cast(1.5 AS FLOAT)), cast(0.1 AS FLOAT), cast(0.1 AS FLOAT) + 0.1D, cast(16777217 AS FLOAT)
1e308D * 10, -1e308D * 10, cast(1e308D * 10 AS STRING)
9999999999, 99999999999999999999
9223372036854775808
assert_true(1 = 1)
assert_true(1 = 2)
raise_error('stop')
rand(42) < 1, random() >= 0
monotonically_increasing_id()
SELECT id, price * quantity AS total, price / quantity AS unit, round(price, 1) AS r FROM main.corpus.sales ORDER BY id
SELECT sum(price), avg(price), min(price), max(price), sum(quantity), avg(quantity), avg(rating), sum(rating) FROM main.corpus.sales
SELECT sum(price * quantity) / sum(quantity) AS weighted FROM main.corpus.sales
SELECT stddev(rating), stddev_pop(rating), variance(rating), var_pop(rating), skewness(rating), kurtosis(rating) FROM main.corpus.sales
SELECT corr(rating, quantity), covar_pop(rating, quantity), covar_samp(rating, quantity), regr_slope(rating, quantity), regr_r2(rating, quantity) FROM main.corpus.sales
SELECT percentile(rating, 0.5), percentile(quantity, array(0.25, 0.75)), median(rating) FROM main.corpus.sales
SELECT percentile_approx(rating, 0.5), percentile_approx(quantity, 0.9), percentile_approx(quantity, array(0.1, 0.5)) FROM main.corpus.sales
SELECT approx_percentile(quantity, 0.5, 100) FROM main.corpus.sales
SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY rating), percentile_disc(0.25) WITHIN GROUP (ORDER BY rating) FROM main.corpus.sales
SELECT count(*), count(rating), count(DISTINCT region), approx_count_distinct(region), count_if(rating > 3), count(1) FROM main.corpus.sales
SELECT bool_and(rating > 0), bool_or(rating > 4), every(quantity > 0), some(quantity > 5), any(quantity > 5) FROM main.corpus.sales
SELECT bit_and(quantity), bit_or(quantity), bit_xor(quantity) FROM main.corpus.sales
SELECT max_by(item, price), min_by(item, price), first(item), last(item), any_value(region), mode(region) FROM (SELECT * FROM main.corpus.sales ORDER BY id)
SELECT try_sum(quantity), try_avg(quantity), sum(DISTINCT quantity), avg(DISTINCT quantity) FROM main.corpus.sales
SELECT histogram_numeric(quantity, 3) FROM main.corpus.sales
SELECT sum(quantity) FILTER (WHERE region = 'north'), count(*) FILTER (WHERE region IS NULL) FROM main.corpus.sales
SELECT sum(quantity) FROM main.corpus.sales WHERE false
SELECT avg(quantity), count(*) FROM main.corpus.sales WHERE id > 1000
SELECT region, sum(price) FROM main.corpus.sales GROUP BY region ORDER BY region
SELECT region, sum(price) AS s FROM main.corpus.sales GROUP BY region HAVING s > 20 ORDER BY s DESC NULLS LAST
