"""The kept answers are Spark's: asked again, it says the same."""

from tests.spark.answers import ask, kept
from tests.spark.corpus import cases
from tests.spark.spark import Spark


def test_spark_still_answers_what_was_kept(spark: Spark) -> None:
    answers = kept()
    changed = [case.statement for case in cases() if ask(spark, case.statement) != answers.get(case.statement)]
    assert changed == []


def test_every_kept_answer_is_of_the_corpus() -> None:
    assert set(kept()) == {case.statement for case in cases()}
