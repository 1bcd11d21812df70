-- Strings: literals and their escapes, functions, patterns, formatting.
'it''s'
'O''Brien' = 'O' || chr(39) || 'Brien'
"double quoted"
'a\nb', 'tab\there', 'back\\slash', 'quote\'s'
r'raw\n'
'\u0041\u00e9'
'100\%'
'a' 'b'
concat('a', 1, true, NULL)
concat('a', 1, 2.5, date'2024-01-01')
concat_ws('-', 'a', NULL, 'b', array('c', 'd'))
'a' || 1
length('héllo'), octet_length('héllo'), bit_length('abc'), char_length('abc ')
upper('straße'), lower('ÀÉ'), initcap('hello wORLD')
substring('abcdef', 2, 3), substring('abcdef', 0, 2), substring('abcdef', -3, 2), substring('abcdef', 5)
substr('abc' FROM 2 FOR 1)
left('abc', 2), right('abc', 2), left('abc', 0)
trim('  a  '), ltrim('  a'), rtrim('a  '), btrim('xxaxx', 'x'), trim(BOTH 'x' FROM 'xax'), trim(LEADING 'x' FROM 'xax')
lpad('7', 3, '0'), rpad('a', 3, '*'), lpad('abcd', 2)
repeat('ab', 3), space(2) || '|', reverse('abc')
replace('abcabc', 'b', 'x'), replace('abc', 'b'), translate('abc', 'ab', 'x')
overlay('Spark SQL' PLACING '_' FROM 6)
instr('hello', 'l'), locate('l', 'hello', 4), position('l' IN 'hello')
split('a,b,,c', ',')
split('a1b2c', '[0-9]')
split('a,b,c', ',', 2)
split_part('a.b.c', '.', 2), split_part('a.b.c', '.', -1), split_part('a.b.c', '.', 9)
substring_index('a.b.c', '.', 2), substring_index('a.b.c', '.', -1)
contains('hello', 'ell'), startswith('hello', 'he'), endswith('hello', 'lo')
'Hello' LIKE 'h%', 'Hello' ILIKE 'h%', 'a_c' LIKE 'a\_c', 'a%c' LIKE 'a!%c' ESCAPE '!'
'abc' RLIKE '^a.c$', 'abc' REGEXP 'b', regexp('abc', 'z')
'abc' LIKE ANY ('x%', 'a%'), 'abc' LIKE ALL ('a%', '%c')
'abc' NOT LIKE 'a%'
regexp_extract('a-12-b', '([a-z])-(\\d+)', 2)
regexp_extract('abc', '(\\d+)', 1)
regexp_extract_all('a1b22', '(\\d+)', 1)
regexp_replace('a1b2', '\\d', '#')
regexp_replace('John Smith', '(\\w+) (\\w+)', '$2 $1')
regexp_count('abab', 'a'), regexp_instr('xxab', 'ab'), regexp_substr('a12', '\\d+')
ascii('A'), chr(65), char(66), hex('abc'), hex(255), unhex('616263')
base64('abc'), cast(unbase64('YWJj') AS STRING), encode('abc', 'UTF-8'), decode(encode('abc', 'UTF-8'), 'UTF-8')
md5('abc'), sha1('abc'), sha2('abc', 256), crc32('abc')
hash('abc'), xxhash64('abc')
soundex('Robert'), levenshtein('kitten', 'sitting')
format_string('%s is %d years, %.2f %%', 'Ann', 30, 1.5D)
format_number(1234567.891, 2), format_number(0.5, 0)
printf('%05d|%x|%5s|%-5s|', 42, 255, 'a', 'b')
to_char(1234.5, '9,999.99')
to_char(78.12, '$99.99')
to_number('1,234.50', '9,999.99')
try_to_number('abc', '999')
to_char(date'2024-05-07', 'yyyy/MM')
elt(2, 'a', 'b', 'c'), find_in_set('b', 'a,b,c')
ifnull(NULL, 'x'), nvl(NULL, 'x'), nvl2(NULL, 'a', 'b'), coalesce(NULL, NULL, 'z'), nullif('a', 'a')
'abc' < 'abd', 'B' < 'a', 'é' > 'z'
cast('abc' AS BINARY), cast(cast('abc' AS BINARY) AS STRING)
string(1), string(true), string(1.0), string(cast(1 AS DOUBLE)), string(1e10), string(cast(0.1 AS FLOAT))
cast(array(1, 2) AS STRING), cast(map('a', 1) AS STRING), cast(named_struct('a', 1, 'b', NULL) AS STRING)
cast(1.10 AS STRING), cast(-0.0 AS STRING), cast(1.0E-7D AS STRING), cast(123456789.0D AS STRING)
luhn_check('4111111111111111')
url_encode('a b&c'), url_decode('a+b%26c')
parse_url('https://x.io/p?a=1', 'HOST'), parse_url('https://x.io/p?a=1', 'QUERY', 'a')
sentences('Hi there. Bye.')
mask('Ab-12')
str_to_map('a:1,b:2', ',', ':')
uuid() <> uuid()
SELECT item, upper(item), length(note) FROM main.corpus.sales ORDER BY id
SELECT item FROM main.corpus.sales WHERE note = 'it''s fine'
SELECT id FROM main.corpus.sales WHERE note LIKE '%100\%%' ORDER BY id
SELECT string_agg(item, ', ') WITHIN GROUP (ORDER BY id) FROM main.corpus.sales
SELECT listagg(DISTINCT region, '|') WITHIN GROUP (ORDER BY region) FROM main.corpus.sales
SELECT concat_ws(',', sort_array(collect_set(item))) FROM main.corpus.sales
