"""Questions to plans, by rules: every word that carries meaning must be understood, or there is no plan.

So a question about something else, or about more than the model says, is told apart from one that can be answered;
nothing is guessed.
"""

import re
from datetime import date

from lakemesh.agents.analyst.lexicon import Lexicon, Meaning, Mention
from lakemesh.agents.analyst.plan import CannotAnswer, Grain, MetricFilter, Plan, TimeRange, ValueFilter
from lakemesh.agents.analyst.semantic_model import SemanticModel, table_of
from lakemesh.agents.analyst.time_ranges import find_ranges, shifted
from lakemesh.agents.analyst.words import Word, Words, stems

GRAINS: dict[str, Grain] = {
    "day": "day", "daily": "day", "week": "week", "weekly": "week", "month": "month", "monthly": "month",
    "quarter": "quarter", "quarterly": "quarter", "year": "year", "yearly": "year", "annual": "year",
    "trend": "month",
}  # fmt: skip
MOST = frozenset("most highest largest biggest best greatest top strongest leading".split())  # noqa: SIM905
LEAST = frozenset("least lowest smallest fewest worst bottom weakest".split())  # noqa: SIM905
SMALL = {word: place for place, word in enumerate("one two three four five six seven eight nine ten".split(), 1)}  # noqa: SIM905
ABOVE = r"more than|over|above|greater than|exceeding"
BELOW = r"fewer than|less than|under|below"
THAN = re.compile(
    rf"\b(?:({ABOVE})|({BELOW})|(at least)|(at most))\s+(\d[\d,]*(?:\.\d+)?)"
    r"(?!\s*(?:days?|weeks?|months?|quarters?|years?)\b)"
)
FOLLOW_UP = re.compile(
    r"^(and|but|now|then|what about|how about|only|just|instead|same|or)\b"
    r"|\b(instead|the same|of (?:those|them|these))\b"
)
GROUPING = frozenset("by per each every across which what of different".split())  # noqa: SIM905
NEGATIONS = frozenset("not except excluding without outside besides".split())  # noqa: SIM905
COURTESY = re.compile(r"\b(instead|now|then|but|how about|what about|those|them|these|over time|ranked|sorted)\b")


class Planner:
    """Plans the questions of one domain."""

    def __init__(self, model: SemanticModel) -> None:
        self._model = model
        self.lexicon = Lexicon(model)
        self._plain = frozenset(part for phrase in model.plain_words for part in stems(phrase))

    def plan(self, question: str, *, today: date, previous: Plan | None = None) -> Plan:
        """`previous` is the plan that a follow-up goes on from. Raises `CannotAnswer`."""
        for place, verified in enumerate(self._model.verified_queries):
            if stems(verified.question) == stems(question):
                return Plan(verified=place)
        reading = Reading(self._model, self.lexicon, question, today)
        left = [word.text for word in reading.words.left() if word.stem not in self._plain]
        if left:
            raise CannotAnswer(f"I do not know what {listed(left)} means here.", unknown=tuple(left))
        plan = reading.plan()
        follows = is_follow_up(question) or not plan.metrics
        if previous is not None and follows and previous.verified is None:
            plan = continued(previous, plan)
        return self._checked(plan)

    def _checked(self, plan: Plan) -> Plan:
        """Raises `CannotAnswer` for a plan that its tables cannot answer."""
        if not plan.metrics:
            raise CannotAnswer("The question names nothing that is measured here.", choices=tuple(self._model.metrics))
        facts = {self._model.table_of_metric(name) for name in (*plan.metrics, *(one.metric for one in plan.having))}
        if len(facts) > 1:
            raise CannotAnswer(f"{listed(plan.metrics)} are counted in different tables; ask for one at a time.")
        fact = facts.pop()
        for name in (*plan.dimensions, *(one.dimension for one in plan.filters)):
            if self._model.path(fact, table_of(self._model.dimensions[name].column)) is None:
                raise CannotAnswer(f"{plan.metrics[0]} is not known by {name}.")
        if (plan.ranges or plan.grain) and self._model.tables[fact].time_column is None:
            raise CannotAnswer(f"It is not known when {plan.metrics[0]} happened.")
        if len(plan.ranges) > 1 and len({one.grain for one in plan.ranges}) > 1:
            raise CannotAnswer("The times to compare are of different lengths.")
        if (plan.limit is not None or plan.having) and not plan.dimensions and plan.grain is None:
            raise CannotAnswer("The question does not say what is to be ranked.", choices=tuple(self._model.dimensions))
        return plan


class Reading:
    """One question, read step by step; each step accounts for the words it understood."""

    def __init__(self, model: SemanticModel, lexicon: Lexicon, question: str, today: date) -> None:
        self.words = Words.of(question)
        self._model = model
        self._having: list[MetricFilter] = []
        self._limit: int | None = None
        self._ranked = self._ascending = False
        self._grain: Grain | None = None
        self._ranges: list[TimeRange] = []
        thresholds = self._thresholds()
        self._read_times(today)
        mentions = list(lexicon.mentions(self.words))
        self._meant = self._resolved(mentions)
        for mention, _ in self._meant:
            self._account(mention)
        self._filters = self._read_filters()
        self._read_having(thresholds)
        self._read_order()
        self._read_grain()
        for match in COURTESY.finditer(self.words.text):
            self.words.understand(*match.span())

    def plan(self) -> Plan:
        filters = self._filters
        metrics = tuple(dict.fromkeys(one.name for _, one in self._meant if one.kind == "metric"))
        dimensions = [one.name for mention, one in self._meant if one.kind == "dimension" and self._groups(mention)]
        if not re.search(r"\bor\b", self.words.text):
            dimensions += [one.dimension for one in filters if len(one.values) > 1 and not one.excluded]
        grain = self._grain
        if len(self._ranges) > 1 and grain is None:
            grain = self._ranges[0].grain
        return Plan(
            metrics=metrics,
            dimensions=tuple(dict.fromkeys(dimensions)),
            grain=grain,
            filters=filters,
            having=tuple(self._having),
            ranges=tuple(self._ranges),
            limit=self._limit if self._limit is not None else self._one_of_them(),
            ascending=self._ascending,
        )

    def _account(self, mention: Mention) -> None:
        for word in self.words.all[mention.start : mention.end]:
            word.understood = True

    def _thresholds(self) -> list[tuple[int, int, str, float]]:
        """The comparisons with numbers, taken before a number can be read as a year."""
        found = []
        for match in THAN.finditer(self.words.text):
            above, below, least, _most, number = match.groups()
            operator = ">" if above else "<" if below else ">=" if least else "<="
            if re.fullmatch(r"(?:19|20)\d\d", number) and match.group(1) == "over":
                continue
            found.append((match.start(), match.end(), operator, float(number.replace(",", ""))))
            self.words.understand(*match.span())
        return found

    def _read_times(self, today: date) -> None:
        found = list(find_ranges(self.words.text, today))
        found = [one for one in found if not any(word.understood for word in self._between(one[0], one[1]))]
        for start, end, _ in found:
            self.words.understand(start, end)
        self._ranges = merged(found, self.words.text)

    def _between(self, start: int, end: int) -> list[Word]:
        return [word for word in self.words.all if word.start >= start and word.end <= end]

    def _resolved(self, mentions: list[Mention]) -> list[tuple[Mention, Meaning]]:
        """Each mention with what it means here. Raises `CannotAnswer` where that stays open."""
        sure = {one.name for mention in mentions if len(mention.meanings) == 1 for one in mention.meanings}
        found = []
        for mention in mentions:
            meanings = list(mention.meanings)
            if len(meanings) > 1 and mention.of("metric") and mention.of("dimension"):
                grouping = self.words.before(mention.start)[-1:]
                meanings = mention.of("dimension" if grouping and grouping[0] in GROUPING else "metric")
            if len(meanings) > 1:
                meanings = [one for one in meanings if one.kind != "dimension" and one.name in sure] or meanings
            if len(meanings) > 1:
                said = " ".join(word.text for word in self.words.all[mention.start : mention.end])
                choices = tuple(one.name for one in meanings)
                raise CannotAnswer(f"{said!r} may mean {listed(choices)}.", choices=choices)
            found.append((mention, meanings[0]))
        return found

    def _read_having(self, thresholds: list[tuple[int, int, str, float]]) -> None:
        """Each comparison belongs to the metric right after its number, or right before it."""
        for start, end, operator, number in thresholds:
            after = [one for mention, one in self._meant if one.kind == "metric" and self._touches(mention, end)]
            before = [one for mention, one in self._meant if one.kind == "metric" and self._ends_at(mention, start)]
            if not (after or before):
                raise CannotAnswer("It is not clear what the number is compared with.", unknown=(f"{number:g}",))
            self._having.append(MetricFilter(metric=(after or before)[0].name, operator=operator, number=number))

    def _touches(self, mention: Mention, end: int) -> bool:
        return 0 <= self.words.all[mention.start].start - end <= 5

    def _ends_at(self, mention: Mention, start: int) -> bool:
        between = self.words.text[self.words.all[mention.end - 1].end : start].strip()
        return self.words.all[mention.end - 1].end <= start and between in ("", "is", "of", "was", "are")

    def _read_order(self) -> None:
        for place, word in enumerate(self.words.all):
            if word.understood or word.text not in MOST | LEAST:
                continue
            word.understood = self._ranked = True
            self._ascending = word.text in LEAST
            for near in (place + 1, place - 1):
                if 0 <= near < len(self.words.all) and (count := count_of(self.words.all[near].text)) is not None:
                    self._limit = count
                    self.words.all[near].understood = True
                    break

    def _one_of_them(self) -> int | None:
        """`Which country has the most` asks for one, `which countries have the most` for all, ranked."""
        if not self._ranked:
            return None
        groups = [self.words.all[mention.end - 1] for mention, one in self._meant if one.kind == "dimension"]
        return None if any(word.is_plural for word in groups) else 1

    def _read_grain(self) -> None:
        for word in self.words.all:
            if not word.understood and word.stem in GRAINS:
                self._grain = self._grain or GRAINS[word.stem]
                word.understood = True
        if "over time" in self.words.text:
            self._grain = self._grain or "month"

    def _groups(self, dimension: Mention) -> bool:
        """Whether a named dimension is one to group by, and not only the kind of a value beside it."""
        name = dimension.of("dimension")[0].name
        values = [mention for mention, one in self._meant if one.kind == "value" and one.name == name]
        near = any(-1 <= value.start - dimension.end <= 1 or 0 <= dimension.start - value.end <= 0 for value in values)
        return not near or bool(GROUPING & set(self.words.before(dimension.start)))

    def _read_filters(self) -> tuple[ValueFilter, ...]:
        found: dict[tuple[str, bool], list[str]] = {}
        for mention, one in self._meant:
            if one.kind == "value":
                excluded = False
                for word in self.words.all[max(0, mention.start - 3) : mention.start]:
                    if word.text in NEGATIONS:
                        excluded = word.understood = True
                found.setdefault((one.name, excluded), []).append(one.value)
        return tuple(
            ValueFilter(dimension=name, values=tuple(dict.fromkeys(values)), excluded=excluded)
            for (name, excluded), values in found.items()
        )


def is_follow_up(question: str) -> bool:
    return bool(FOLLOW_UP.search(question.lower().strip()))


def continued(previous: Plan, plan: Plan) -> Plan:
    """The plan before, with what the follow-up says in place of what it said before."""
    named = {one.dimension for one in plan.filters}
    kept = [one for one in previous.filters if one.dimension not in named]
    merged_filters = (*kept, *plan.filters)
    dimensions = plan.dimensions or (() if plan.grain else previous.dimensions)
    return Plan(
        metrics=plan.metrics or previous.metrics,
        dimensions=dimensions,
        grain=plan.grain or (None if plan.dimensions or plan.limit else previous.grain),
        filters=tuple(merged_filters),
        having=plan.having or (previous.having if not plan.metrics else ()),
        ranges=plan.ranges or previous.ranges,
        limit=plan.limit or (previous.limit if not plan.dimensions and not plan.grain else None),
        ascending=plan.ascending or previous.ascending,
    )


def merged(found: list[tuple[int, int, TimeRange]], text: str) -> list[TimeRange]:
    """`from March to June` and `between March and June` are one range; a month without a year takes the next one's."""
    ranges: list[TimeRange] = []
    last_end = 0
    for start, end, one in found:
        if ranges:
            before = ranges[-1]
            year = re.search(r"\d{4}", one.label)
            if year and not re.search(r"\d{4}", before.label) and before.grain in ("month", "quarter"):
                before = ranges[-1] = with_year(before, int(year.group()))
            joint = text[last_end:start].strip()
            is_between = joint == "and" and re.search(r"\bbetween\s*$", text[: found[0][0]])
            if joint in ("to", "through", "-", "\u2013") or is_between or one.label.startswith(("until", "till")):
                last = one.end
                label = f"{before.label} to {one.label}"
                ranges[-1] = TimeRange(start=before.start, end=last, label=label, grain=one.grain)
                last_end = end
                continue
        ranges.append(one)
        last_end = end
    return ranges


def with_year(one: TimeRange, year: int) -> TimeRange:
    start = one.start.replace(year=year)
    return TimeRange(start=start, end=shifted(start, one.grain, 1), label=f"{one.label} {year}", grain=one.grain)


def count_of(word: str) -> int | None:
    number = int(word) if word.isdecimal() and len(word) <= 3 else SMALL.get(word)
    return number if number is not None and 1 <= number <= 100 else None


def listed(names: "tuple[str, ...] | list[str]") -> str:
    return ", ".join(repr(name) for name in names)
