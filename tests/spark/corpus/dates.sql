-- Dates, timestamps, intervals and time zones.
date'2024-02-29'
date '2024-01-31' + interval 1 month
date'2024-01-31' + interval '1' day
date'2024-03-31' - interval 1 month
date'2024-01-31' + 1
date'2024-03-01' - date'2024-02-01'
date_add(date'2024-02-28', 2)
date_add('2024-02-28', 2)
date_sub(date'2024-03-01', 1)
dateadd(DAY, 3, date'2024-01-30')
dateadd(MONTH, 1, timestamp'2024-01-31 10:00:00')
dateadd(HOUR, -5, timestamp'2024-01-01 03:00:00')
timestampadd(MINUTE, 90, timestamp'2024-01-01 00:00:00')
datediff(date'2024-03-01', date'2024-02-01')
datediff(DAY, date'2024-02-01', date'2024-03-01')
datediff(MONTH, date'2024-01-31', date'2024-03-01')
datediff(HOUR, timestamp'2024-01-01 00:59:00', timestamp'2024-01-01 02:00:00')
timestampdiff(MONTH, timestamp'2024-01-31 00:00:00', timestamp'2024-03-01 00:00:00')
timestampdiff(YEAR, date'2000-02-29', date'2024-02-28')
timestampdiff(SECOND, timestamp'2024-01-01 00:00:00', timestamp'2024-01-01 00:01:00.9')
add_months(date'2024-01-31', 1)
add_months(date'2024-03-31', -1)
months_between(date'2024-03-31', date'2024-02-29')
months_between(timestamp'2024-03-15 12:00:00', timestamp'2024-02-01 00:00:00')
last_day(date'2024-02-10')
next_day(date'2024-02-10', 'Mon')
year(date'2024-05-06'), quarter(date'2024-05-06'), month(date'2024-05-06'), day(date'2024-05-06')
dayofweek(date'2024-05-05'), weekday(date'2024-05-05'), dayofyear(date'2024-05-05'), weekofyear(date'2024-05-05')
extract(DOW FROM date'2024-05-05')
extract(DAYOFWEEK_ISO FROM date'2024-05-05')
extract(EPOCH FROM timestamp'2024-05-05 00:00:00')
extract(YEAR FROM date'2024-05-05'), extract(WEEK FROM date'2024-12-30'), extract(YEAROFWEEK FROM date'2024-12-30')
extract(SECOND FROM timestamp'2024-05-05 01:02:03.456')
date_part('MONTH', date'2024-05-05')
hour(timestamp'2024-05-05 13:14:15'), minute(timestamp'2024-05-05 13:14:15'), second(timestamp'2024-05-05 13:14:15.6')
dayname(date'2024-05-05'), monthname(date'2024-05-05')
trunc(date'2024-05-17', 'MM')
trunc(date'2024-05-17', 'YEAR'), trunc(date'2024-05-17', 'QUARTER'), trunc(date'2024-05-17', 'WEEK')
date_trunc('HOUR', timestamp'2024-05-17 13:14:15.678')
date_trunc('week', timestamp'2024-05-17 13:14:15')
date_trunc('MONTH', date'2024-05-17')
date_trunc('day', timestamp'2024-05-17 13:14:15')
to_date('2024-05-17')
to_date('17/05/2024', 'dd/MM/yyyy')
to_date('2024-05-17 10:00:00')
to_timestamp('2024-05-17 10:11:12')
to_timestamp('2024-05-17')
to_timestamp('17.05.2024 10:11', 'dd.MM.yyyy HH:mm')
to_timestamp('2024-05-17T10:11:12Z')
to_timestamp('2024-05-17T10:11:12+02:00')
try_to_timestamp('no date')
try_to_timestamp('2024-05-17 10:11:12')
to_date('no date')
cast('2024-13-01' AS DATE)
try_cast('2024-13-01' AS DATE)
cast('2024-05' AS DATE)
cast('2024-05-17 10:11:12.345' AS TIMESTAMP)
cast(timestamp'2024-05-17 10:11:12' AS STRING)
cast(timestamp'2024-05-17 10:11:12.340' AS STRING)
cast(date'2024-05-17' AS STRING)
cast(timestamp'2024-05-17 10:11:12' AS DATE)
cast(date'2024-05-17' AS TIMESTAMP)
cast(timestamp'2024-05-17 10:11:12' AS BIGINT)
cast(timestamp'2024-05-17 10:11:12.5' AS DOUBLE)
cast(0 AS TIMESTAMP)
timestamp_seconds(1715940672), timestamp_millis(1715940672123), timestamp_micros(1715940672123456)
unix_timestamp(timestamp'2024-05-17 10:11:12'), unix_millis(timestamp'2024-05-17 10:11:12'), unix_micros(timestamp'2024-05-17 10:11:12'), unix_seconds(timestamp'2024-05-17 10:11:12')
unix_timestamp('2024-05-17 10:11:12')
unix_timestamp('17.05.2024', 'dd.MM.yyyy')
unix_date(date'1970-01-11'), date_from_unix_date(10)
from_unixtime(0)
from_unixtime(1715940672, 'yyyy-MM-dd HH:mm')
to_unix_timestamp('2024-05-17 10:11:12')
make_date(2024, 2, 29)
make_date(2023, 2, 29)
make_timestamp(2024, 5, 17, 10, 11, 12.5)
make_interval(0, 1, 0, 2) + timestamp'2024-01-31 00:00:00'
timestamp'2024-01-31 00:00:00' + make_interval(1, 1, 1, 1, 1, 1, 1)
timestamp'2024-01-31 00:00:00' + make_dt_interval(1, 2, 3, 4.5)
date_format(timestamp'2024-05-07 13:04:05.678', 'yyyy-MM-dd HH:mm:ss')
date_format(timestamp'2024-05-07 13:04:05.678', 'EEE, d MMM yyyy')
date_format(timestamp'2024-05-07 13:04:05.678', 'h:mm a')
date_format(date'2024-05-07', 'MMMM EEEE D')
date_format(timestamp'2024-05-07 13:04:05.678', 'yy/M/d H.m.s.SSS')
date_format(date'2024-05-07', 'Q')
date_format(date'2024-05-07', "yyyy'Q'q")
from_utc_timestamp(timestamp'2024-01-01 00:00:00', 'America/New_York')
to_utc_timestamp(timestamp'2024-01-01 00:00:00', 'America/New_York')
convert_timezone('UTC', 'Europe/Berlin', timestamp_ntz'2024-07-01 12:00:00')
convert_timezone('America/Los_Angeles', 'UTC', timestamp_ntz'2024-07-01 12:00:00')
timestamp'2024-07-01 12:00:00 Europe/Berlin'
timestamp_ntz'2024-07-01 12:00:00'
cast(timestamp_ntz'2024-07-01 12:00:00' AS TIMESTAMP)
timestamp'2024-01-02 00:00:00' - timestamp'2024-01-01 12:00:00'
timestamp'2024-01-02 00:00:00' - interval 90 minutes
timestamp'2024-01-02 00:00:00' + interval '1 2:03:04' day to second
interval 3 days
interval '2' hours + interval '30' minutes
interval 2 hours * 3
interval '1-6' year to month
date'2024-01-31' + interval 1 year
timestamp'2024-02-29 00:00:00' + interval 1 year
cast(interval 3 hours AS STRING)
date'2024-01-01' < timestamp'2024-01-01 00:00:01'
date'2024-01-01' = '2024-01-01'
timestamp'2024-01-01 00:00:00' = '2024-01-01'
current_date() = cast(current_timestamp() AS DATE)
now() = current_timestamp()
typeof(current_date()), typeof(current_timestamp()), typeof(now() - now())
date'2024-01-01' BETWEEN '2023-12-31' AND '2024-01-02'
sequence(date'2024-01-01', date'2024-03-01', interval 1 month)
sequence(timestamp'2024-01-01 00:00:00', timestamp'2024-01-01 02:00:00', interval 1 hour)
explode(sequence(date'2024-01-01', date'2024-01-03'))
greatest(date'2024-01-01', date'2024-02-01'), least(date'2024-01-01', date'2024-02-01')
SELECT window.start, window.end, count(*) AS n FROM main.corpus.sales GROUP BY window(sold_at, '12 hours') ORDER BY 1
SELECT day, date_diff(day, date'2024-01-01') AS d FROM main.corpus.sales ORDER BY id
SELECT date_trunc('MONTH', sold_at) AS m, count(*) FROM main.corpus.sales GROUP BY ALL ORDER BY m
SELECT max(sold_at) - min(sold_at) AS span FROM main.corpus.sales
SELECT * FROM main.corpus.sales WHERE sold_at >= timestamp'2024-02-01' AND sold_at < '2024-03-01' ORDER BY id
SELECT id FROM main.corpus.sales WHERE sold_at > date'2024-02-01' ORDER BY id
SELECT min(day), max(day), count(DISTINCT day) FROM main.corpus.sales
SELECT unix_timestamp(max(sold_at)) FROM main.corpus.sales
