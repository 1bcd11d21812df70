# ruff: noqa: E501
"""What a model may have written: everything hostile is refused, and nothing of an untouched pipeline."""

import os
from pathlib import Path

import pytest

from lakemesh.pipelines.gate import judge

HEAD = "from pyspark import pipelines as dp\nfrom pyspark.sql import functions as F\n"


def query(body: str, before: str = "") -> str:
    return f'{HEAD}\n{before}@dp.table(name="t")\ndef t():\n    return {body}\n'


UNTOUCHED = [
    query('spark.readStream.table("a").where("id IS NOT NULL").selectExpr("id AS id", "upper(name) AS name")'),
    query(
        'spark.read.table("main.raw.a").groupBy("country").agg(F.sum("amount").alias("total"), F.count("*").alias("n"))'
    ),
    query(
        'spark.readStream.format("cloudFiles").option("cloudFiles.format", "json").load("/Volumes/main/raw/landing/a")'
    ),
    query('spark.sql("SELECT a.id, b.name FROM STREAM a LEFT JOIN b ON a.id = b.id")'),
    query('spark.read.table("a").withColumn("day", F.to_date(F.col("t"))).filter(F.col("x") > 5)'),
    query('spark.read.table("a").join(spark.read.table("b"), on=["id"], how="left").dropDuplicates(["id"])'),
    query('spark.read.table("a").withColumn("x", F.when(F.col("a") == "b", 1).otherwise(-1) + 2 * F.col("c"))'),
    query('spark.read.table("a")', '@dp.expect_or_drop("ok", "id IS NOT NULL")\n@dp.expect_all({"p": "x > 0"})\n'),
    HEAD + 'dp.create_streaming_table(name="c")\n'
    'dp.create_auto_cdc_flow(target="c", source="b", keys=["id"], sequence_by="t", stored_as_scd_type=2)\n',
]


@pytest.mark.parametrize("code", UNTOUCHED)
def test_an_untouched_pipeline_passes(code: str) -> None:
    assert judge(code) == []


EXPRESSIONS = [
    '__import__("os").system("id")', 'eval("1")', "exec('1')", 'open("/etc/passwd").read()', 'compile("1", "a", "eval")',
    'getattr(spark, "_jvm")', "spark._jvm", "spark.sparkContext", 'spark.conf.set("a", "b")', "spark.catalog.dropTable('a')",
    'spark._jvm.java.lang.Runtime.getRuntime().exec("id")', "globals()", "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 1)()", "[x for x in (1,)]", 'f"{spark}"', "(x := 1)", "spark.read.table", "spark", "dp.cli", "dp.api.sys",
    'spark.sql("DROP TABLE a")', 'spark.sql("CREATE TABLE a AS SELECT 1")', 'spark.sql("SELECT 1; SELECT 2")',
    'spark.sql("SELECT reflect(\'java.lang.System\', \'getenv\')")', 'spark.sql("SELECT * FROM csv.`/etc/passwd`")',
    'spark.sql("SELECT secret(\'a\', \'b\')")', 'spark.sql("SELECT ai_query(\'a\', \'b\')")', 'spark.sql("SET a = b")',
    'spark.sql("INSERT INTO a SELECT 1")', 'spark.sql("SELECT * FROM read_files(\'/x\')")', 'spark.sql("ADD JAR \'/x\'")',
    'spark.sql("SELECT http_request(\'a\')")', 'spark.sql("SELECT TRANSFORM(a) USING \'cat\' FROM b")',
    'spark.sql("SELECT ${a}")', 'spark.sql("SELECT raise_error(\'x\')")', "spark.sql('SEL' + 'ECT 1')",
    'spark.sql("SELECT %s" % "1")', 'spark.sql("SELECT {}".format("1"))', 'spark.sql("EXECUTE IMMEDIATE \'SELECT 1\'")',
    'spark.read.table("a").where("reflect(\'a\', \'b\') = 1")', 'spark.read.table("a").where("java_method(\'a\', \'b\')")',
    'spark.read.table("a").where("ref" + "lect(\'a\', \'b\') = 1")',
    'spark.read.table("a").where("reflect(\'a\',\'b\') -- %s" % F.lit(1))',
    'spark.read.table("a").where("".join(["reflect", "(1)"]))', 'spark.read.table("a").filter("id IN (SELECT 1)")',
    'spark.read.table("a").selectExpr("*", "try_reflect(\'a\', \'b\')")', 'F.expr("java_method(\'a\', \'b\')")',
    'spark.read.table("a").withColumn("x", F.expr("reflect(\'a\', \'b\')"))', 'F.reflect("a")', 'F.java_method("a")',
    'spark.read.table("a").withColumn("x", F.call_function("reflect", F.lit("a")))', "F.udf(1)", "F.pandas_udf(1)",
    'spark.read.table("a").collect()', 'spark.read.table("a").toPandas()', 'spark.read.table("a").write.save("/x")',
    'spark.read.table("a").foreach(1)', 'spark.read.table("a").rdd', 'spark.read.table("a").mapInPandas(1, "a INT")',
    'spark.readStream.table("a").writeStream.start()', 'spark.read.format("jdbc").load("/Volumes/a/b/c/d")',
    'spark.read.format("binaryFile").load("/Volumes/a/b/c")', 'spark.read.format("csv").load("/etc/passwd")',
    'spark.read.format("csv").load("file:/etc/passwd")', 'spark.read.format("csv").load("/Volumes/a/b/../../../etc")',
    'spark.read.format("csv").load("s3://x/y")', 'spark.read.format("csv").option("path", "/etc").load()',
    'spark.read.format("com.evil.Source").load("/Volumes/a/b/c/d")', 'spark.read.csv("/etc/passwd")', 'spark.read.text("/x")',
    'spark.read.table("csv.`/etc/passwd`")', 'spark.createDataFrame([1])', 'spark.addArtifacts("/x")', "dbutils.secrets.get('a', 'b')",
    'spark.read.option("kafka.sasl.jaas.config", "x").load()', "print(1)", "display(1)", "input()", "type(1)", "vars()",
    'spark.read.table("a")["b"]', "spark.read.table(*['a'])", "spark.read.table(**{'a': 1})", "b'abc'", "...", "1j",
    "await x", "yield 1", "not spark", "spark.udf.register('a', 1)", "spark.dataSource.register(1)", "spark.newSession()",
    'spark.read.table("a").sql("SELECT 1")', 'F.col("a").__class__', "F.sys", "F.builtin.sys.modules",
]  # fmt: skip

MODULES = [
    "import os\n", "import sys, os\n", "from os import system\n", "from pyspark.sql.functions import *\n",
    "from pyspark import pipelines, SparkContext\n", "from . import a\n", "from pyspark.sql.functions.builtin import sys\n",
    "from typing import sys\n", "from pyspark.pipelines import cli\n", "import importlib\n", "from pyspark.sql import functions as spark\n",
    "x = 1\n", "class A: pass\n", "if True: pass\n", "for x in (1,): pass\n", "while True: pass\n", "try: pass\nexcept Exception: pass\n",
    "with open('a') as f: pass\n", "del spark\n", "assert True\n", "global a\n", "def f(a): return a\n", "def f(): return 1\n",
    "async def f(): return 1\n", "lambda: 1\n", "print(1)\n", "dp = 1\n", "spark = 1\n", "raise ValueError\n", "dp.table = 1\n",
    "@print\n@dp.table\ndef t():\n    return spark.read.table('a')\n",
    "@__import__('os').system\n@dp.table\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table(name=__import__('os').system('id'))\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table(path='/etc')\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table(spark_conf={'a': 'b'})\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table(table_properties={'location': '/x'})\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\n@dp.materialized_view\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\ndef t(x=__import__('os')):\n    return spark.read.table('a')\n",
    "@dp.table\ndef t() -> eval('1'):\n    return spark.read.table('a')\n",
    "@dp.table\ndef t():\n    import os\n    return spark.read.table('a')\n",
    "@dp.table\ndef t():\n    spark.sql('DROP TABLE a')\n    return spark.read.table('a')\n",
    "@dp.table\ndef spark():\n    return spark.read.table('a')\n",
    "@dp.table\ndef dp():\n    return spark.read.table('a')\n",
    "@dp.table\ndef __getattr__():\n    return spark.read.table('a')\n",
    "@dp.foreach_batch_sink(name='a')\ndef t():\n    return spark.read.table('a')\n",
    "@dp.on_event_hook\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\n@dp.expect('a', \"reflect('a', 'b')\")\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\n@dp.expect('a', \"x IN (SELECT 1)\")\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\n@dp.expect_all_or_fail({'a': \"java_method('a', 'b')\"})\ndef t():\n    return spark.read.table('a')\n",
    "@dp.table\n@dp.expect('a', 'x' + 'y')\ndef t():\n    return spark.read.table('a')\n",
    "dp.create_streaming_table(name='a', path='/etc')\n", "dp.create_streaming_table(name='a', expect_all={'a': \"reflect('a')\"})\n",
    "dp.create_auto_cdc_flow(target='a', source='b', keys=['c'], sequence_by=\"reflect('a', 'b')\")\n",
    "dp.create_auto_cdc_flow(target='a', source='b', keys=['c'], sequence_by='d', apply_as_deletes=\"java_method('a', 'b')\")\n",
    "dp.create_sink(name='a', format='delta', options={'path': '/x'})\n",
    "dp.create_sink(name='a', format='kafka', options={'kafka.ssl.keystore.location': '/x'})\n",
    "dp.create_sink(name='a', format='kafka', options={'path': '/x'})\n", "dp.init()\n", "dp.cli.main()\n",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_hostile_query_is_refused(expression: str) -> None:
    found = judge(query(expression))
    assert found, expression
    assert all(refusal.line >= 1 and refusal.rule for refusal in found)


@pytest.mark.parametrize("module", MODULES)
def test_a_hostile_module_is_refused(module: str) -> None:
    assert judge(HEAD + module)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("# coding: utf_7\n" + HEAD, "coding"),
        (HEAD + '@dp.table(comment="a\u202eb")\ndef t():\n    return spark.read.table("a")\n', "characters"),
        (HEAD + "\0", "characters"),
        (HEAD + "\x0c__import__('os')", "characters"),
        (HEAD + "\uff45val('1')\n", "characters"),
        ("(" * 300 + ")" * 300, "syntax"),
        ("x" * 600_000, "size"),
        (query('spark.read.table("a")' + '.where("a = 1")' * 200), "size"),
        ("def f(:", "syntax"),
    ],
)
def test_text_that_reads_otherwise_than_it_runs_is_refused(code: str, rule: str) -> None:
    assert [refusal.rule for refusal in judge(code)] == [rule]


def test_an_attack_in_any_place_of_a_pipeline_is_refused() -> None:
    places = [
        '@dp.table(comment={})\ndef t():\n    return spark.read.table("a")\n',
        '@dp.table\n@dp.expect("a", {})\ndef t():\n    return spark.read.table("a")\n',
        "@dp.table\ndef t():\n    return spark.read.table({})\n",
        '@dp.table\ndef t():\n    x = {}\n    return spark.read.table("a")\n',
        "dp.create_streaming_table(name={})\n",
        "{}\n",
    ]
    attacks = [place.replace("{}", expression, 1) for place in places for expression in EXPRESSIONS]
    assert [attack for attack in attacks if not judge(HEAD + attack)] == []


def spliced(payload: str) -> list[str]:
    """The payload as a module, and in the places of a pipeline that would be run or read as SQL."""
    inner = "\n".join(f"    {line}" for line in payload.splitlines())
    text = repr(payload)
    return [
        payload,
        HEAD + payload,
        f'{HEAD}@dp.table(name="t")\ndef t():\n{inner}\n    return spark.read.table("a")\n',
        f'{HEAD}@dp.table(name="t")\n@dp.expect("r", {text})\ndef t():\n    return spark.read.table("a")\n',
        f'{HEAD}@dp.table(name="t")\ndef t():\n    return spark.sql({text})\n',
        f'{HEAD}@dp.table(name="t")\ndef t():\n    return spark.read.table("a").selectExpr({text})\n',
        f'{HEAD}@dp.table(name={text})\ndef t():\n    return spark.read.table("a")\n',
        f'{HEAD}@dp.table(name="t")\ndef t():\n    return spark.read.format("json").load({text})\n',
        f"{HEAD}dp.create_streaming_table(name={text})\n",
    ]


def test_public_collections_of_attacks_are_refused_wherever_they_are_put() -> None:
    """Python that others wrote to try scanners and agents (bandit's examples, guarddog's samples, RedCode-Exec), in the
    folder that `LAKEMESH_HOSTILE_PYTHON` names."""
    folder = os.environ.get("LAKEMESH_HOSTILE_PYTHON")
    if not folder:
        pytest.skip("LAKEMESH_HOSTILE_PYTHON names a folder of hostile Python")
    payloads = [(path, path.read_text(errors="replace")) for path in Path(folder).rglob("*.py")]
    attacks = [(path, attack) for path, text in payloads if text.strip() for attack in spliced(text)]
    passed = [(path.name, attack[:300]) for path, attack in attacks if not judge(attack)]
    assert len(attacks) > 1_000
    assert passed == []
