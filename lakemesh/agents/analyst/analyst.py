"""`analyst`: answers questions in plain words from the data of domains, and from nothing else."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from opentelemetry.trace import get_current_span
from pydantic import BaseModel, Field
from pydantic_core import to_jsonable_python

from lakemesh.agents.analyst.genie import SemanticGenie, SemanticSpace, without
from lakemesh.agents.analyst.nearness import Nearness
from lakemesh.agents.analyst.planner import is_follow_up
from lakemesh.agents.analyst.preferences import NONE as NO_PREFERENCES
from lakemesh.agents.analyst.preferences import Preferences, Remembered, stated
from lakemesh.agents.analyst.routing import PARTS, DomainRouter, Route, Scored
from lakemesh.agents.analyst.schemas import Analysis, AnalystOptions, DomainAnswer, DomainScore, Question
from lakemesh.agents.analyst.synthesis import facts_of, written
from lakemesh.agents.analyst.vega_lite import chart_of
from lakemesh.agents.base import Agent, AgentContext
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.needs import Needs
from lakemesh.errors import InputRequired, InvalidRequest, LakemeshError, Unauthenticated, WorkspaceUnavailable
from lakemesh.lakehouse.genie import Genie, GenieAnswer, Rating
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, AgentOutput, TextDelta

ANSWER_SECONDS = 600.0
SESSIONS_SHARE = 0.1
"""Of the time that is left, for reading or keeping what was asked before."""


class Choice(BaseModel):
    """What was meant."""

    choice: str = Field(min_length=1, max_length=500)


@dataclass(slots=True)
class Conversation:
    """What a session knows of its questions: the domains of the last answer, each domain's conversation, and the
    message in it that was answered last."""

    last: Sequence[str] = ()
    ids: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a domain said: its answers, or why there are none."""

    domain: str
    conversation_id: str | None = None
    message_id: str = ""
    answers: Sequence[DomainAnswer] = ()
    refusal: str | None = None
    choices: Sequence[str] = ()
    error: LakemeshError | None = None


class Analyst(Agent[Question, Analysis]):
    """Answers questions about business data in plain words, with the SQL, the rows and a chart."""

    input_model = Question
    output_model = Analysis
    options_model = AnalystOptions
    options: AnalystOptions

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        return known.missing_routes("route", options.route)

    @classmethod
    def needs(cls, options: AnalystOptions) -> Needs:
        """A domain with a space is answered by it wherever there is Genie."""
        models = [one.semantic_model for one in options.domains.values() if one.space_id is None and one.semantic_model]
        return Needs(
            warehouse=bool(models),
            memory=options.preferences,
            genie_spaces=frozenset(one.space_id for one in options.domains.values() if one.space_id is not None),
            tables=frozenset(table.name for model in models for table in model.tables.values()),
        )

    async def start(self) -> None:
        domains = self.options.domains
        texts = {name: domain.text for name, domain in domains.items()}
        self._router = DomainRouter(texts, self.options.routing)
        self._remembered = Remembered(self.name)
        self._nearness = Nearness(texts, route=self.options.embedding_route)
        self._spaces = {
            name: SemanticSpace(domain.semantic_model, self._today)
            for name, domain in domains.items()
            if domain.semantic_model is not None
        }

    async def process(self, request: AgentInput[Question], context: AgentContext) -> AgentOutput[Analysis]:
        question, analysis = request.data.question, None
        if request.data.rating is not None:
            return await self._rate(request, request.data.rating, context)
        if self.options.preferences and (said := stated(question)):
            await self._remembered.keep(said, context)
            told = ", ".join(f"{name} {value}" for name, value in said.items())
            return self._noted(f"I will remember: {told}.", context)
        conversation, cosines, preferences = await asyncio.gather(
            self._recall(request, context), self._cosines(question, context), self._preferences(context)
        )
        route = self._router.route(question, cosines)
        note_scores(route)
        names = self._domains(question, route, conversation)
        if names:
            asked = await self._ask_all(question, names, conversation, context)
            if (choices := choices_of(asked)) and (chosen := await self._choice(choices, asked, context)):
                asked = await self._ask_all(f"{question} {chosen}", names, conversation, context)
            analysis = await self._answered(question, asked, context, preferences)
            await self._remember(request, context, conversation, asked)
        else:
            analysis = Analysis(status="refused", text=self._refusal())
        analysis = analysis.model_copy(update={"scores": [shown(one) for one in route.scores]})
        context.emit(TextDelta(text=analysis.text))
        return AgentOutput(agent_name=self.name, result=analysis)

    async def _cosines(self, question: str, context: AgentContext) -> dict[str, float]:
        """None where there is but one domain, or no model that embeds."""
        if len(self.options.domains) < 2 or not context.models.has_route(self.options.embedding_route):
            return {}
        return await self._nearness.cosines(question, context)

    def _domains(self, question: str, route: Route, conversation: Conversation) -> Sequence[str]:
        """Whom to ask. A follow-up stays where the conversation is, unless it names what only another domain measures;
        several are asked when the question names a measure of each. Metrics that are named outweigh scores."""
        known = [name for name in conversation.last if name in self.options.domains]
        measuring = self._measures(question)
        if known and (is_follow_up(question) or not measuring) and measuring.keys() <= set(known):
            return known
        alone = [
            name
            for name, stems in measuring.items()
            if stems - frozenset[str]().union(*(others for other, others in measuring.items() if other != name))
        ]
        if len(alone) > 1 and PARTS.search(question.lower()):
            return alone
        if len(measuring) == 1 and len(route.domains) < 2 and len(self._spaces) == len(self.options.domains):
            return list(measuring)
        return route.domains

    def _measures(self, question: str) -> dict[str, frozenset[str]]:
        """The domains whose metrics the question names, and the words by which it does."""
        found = {name: space.planner.lexicon.metric_stems(question) for name, space in self._spaces.items()}
        return {name: stems for name, stems in found.items() if stems}

    async def _ask_all(
        self, question: str, names: Sequence[str], conversation: Conversation, context: AgentContext
    ) -> list[Asked]:
        """All at once, each within the same share of the time, so that one that hangs costs that and nothing else."""
        workspace = await context.workspace()
        with context.within(self.options.share):
            asked = await asyncio.gather(
                *(
                    self._ask(self._part(question, name, names), name, workspace, conversation, context)
                    for name in names
                )
            )
        failed = [one for one in asked if one.error is not None]
        refused = next((one.error for one in failed if isinstance(one.error, Unauthenticated)), None)
        if refused is not None or (failed and len(failed) == len(asked)):
            raise refused or failed[0].error or AssertionError
        for one in failed:
            assert one.error is not None
            context.degrade(f"{self.name}: {one.domain} did not answer ({one.error.code})")
        return asked

    def _part(self, question: str, name: str, names: Sequence[str]) -> str:
        """The question without what only the other domains measure."""
        if len(names) == 1 or name not in self._spaces:
            return question
        stems = self._measures(question)
        others = frozenset[str]().union(*(words for one, words in stems.items() if one != name and one in names))
        return without(question, others - stems.get(name, frozenset()))

    async def _ask(
        self, question: str, name: str, workspace: Workspace, conversation: Conversation, context: AgentContext
    ) -> Asked:
        try:
            genie, space_id = self._source(name, workspace)
            async with context.deadline.enforced(f"{name} did not answer in time."):
                answer = await genie.ask(
                    space_id,
                    question,
                    conversation_id=conversation.ids.get(name),
                    timeout_seconds=context.deadline.remaining_seconds(),
                )
                return await read(genie, space_id, name, question, answer, units=self.options.domains[name].units)
        except LakemeshError as error:
            return Asked(domain=name, error=error)

    def _source(self, name: str, workspace: Workspace) -> tuple[Genie, str]:
        domain = self.options.domains[name]
        if workspace.genie is not None and domain.space_id is not None:
            return workspace.genie, domain.space_id
        if name in self._spaces:
            return SemanticGenie(self._spaces, workspace.warehouse, row_limit=self.options.row_limit), name
        raise WorkspaceUnavailable(f"{name!r} is answered by a Genie space, and this workspace has no Genie.")

    async def _choice(self, choices: Sequence[str], asked: Sequence[Asked], context: AgentContext) -> str | None:
        """What the caller means; None when they cannot be asked."""
        schema = {
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": list(choices)}},
            "required": ["choice"],
        }
        reasons = " ".join(one.refusal for one in asked if one.refusal)
        try:
            chosen = await context.ask(schema, f"{reasons} Which do you mean?", timeout_seconds=ANSWER_SECONDS)
        except InputRequired:
            return None
        return str(chosen["choice"])

    async def _answered(
        self, question: str, asked: Sequence[Asked], context: AgentContext, preferences: Preferences
    ) -> Analysis:
        answers = [
            answer.model_copy(
                update={
                    "suggested_questions": [
                        *answer.suggested_questions,
                        *self._favourite(one.domain, answer.columns, question, preferences),
                    ]
                }
            )
            for one in asked
            for answer in one.answers
        ]
        gaps = [DomainAnswer(domain=one.domain, error=one.error.code) for one in asked if one.error is not None]
        unanswered = [one for one in asked if one.error is None and not one.answers]
        notes = [f"{one.domain}: {one.refusal}" for one in unanswered if one.refusal]
        if not answers:
            text = " ".join(one.refusal or "" for one in unanswered) or self._refusal()
            choices = choices_of(asked)
            if choices:
                text += f" Do you mean one of: {', '.join(choices)}?"
            return Analysis(status="unclear" if choices else "refused", text=text, answers=gaps)
        notes += [f"{one.domain} did not answer ({one.error})." for one in gaps]
        notes += preferences.notes([unit for one in answers for unit in one.units.values()])
        text, removed = facts_of(answers, preferences), list[str]()
        if not context.models.is_stand_in(self.options.route):
            text, removed = await written(question, answers, context, route=self.options.route, likes=preferences)
        return Analysis(status="answered", text="\n".join([text, *notes]), answers=[*answers, *gaps], removed=removed)

    async def _preferences(self, context: AgentContext) -> Preferences:
        return await self._remembered.of_caller(context) if self.options.preferences else NO_PREFERENCES

    async def _rate(
        self, request: AgentInput[Question], rating: Rating, context: AgentContext
    ) -> AgentOutput[Analysis]:
        """Raises `InvalidRequest` where nothing was answered, and what the spaces raise."""
        before = await self._recall(request, context)
        known = [name for name in before.last if name in self.options.domains and name in before.messages]
        if not known:
            raise InvalidRequest("A rating is of the last answer of a session, and this one has none.")
        workspace = await context.workspace()
        for name in known:
            genie, space_id = self._source(name, workspace)
            await genie.rate(space_id, before.ids[name], before.messages[name], rating)
        return self._noted(f"Thank you; {', '.join(known)} was told.", context)

    def _noted(self, text: str, context: AgentContext) -> AgentOutput[Analysis]:
        context.emit(TextDelta(text=text))
        return AgentOutput(agent_name=self.name, result=Analysis(status="noted", text=text))

    def _favourite(self, name: str, columns: Sequence[str], question: str, preferences: Preferences) -> list[str]:
        """The favourite breakdown of what was not broken down, as a question to go on with."""
        space, liked = self._spaces.get(name), preferences.breakdown
        if liked is None or space is None or len(columns) != 1 or not space.planner.lexicon.is_dimension(liked):
            return []
        return [f"{question.rstrip(' ?.!')} by {liked}"]

    def _refusal(self) -> str:
        told = "; ".join(f"{name}: {domain.description}" for name, domain in self.options.domains.items())
        return f"I cannot answer this from my data. I know about {told}"

    def _today(self) -> date:
        return self.options.today or datetime.now(UTC).date()

    async def _recall(self, request: AgentInput[Question], context: AgentContext) -> Conversation:
        """What the session's questions were about; nothing, and a degraded answer, when sessions are away."""
        if request.session_id is None:
            return Conversation()
        try:
            with context.within(SESSIONS_SHARE):
                found = await self.services.sessions.read(
                    agent=self.name, user=context.identity.user, session_id=request.session_id, limit=1
                )
        except LakemeshError as error:
            context.degrade(f"sessions: unavailable, what was asked before is missing: {error.detail}")
            return Conversation()
        newest = found.messages[-1] if found.messages else {"domains": [], "conversations": {}}
        messages = dict(newest.get("messages") or {})  # sessions of former versions have none
        return Conversation(last=newest["domains"], ids=dict(newest["conversations"]), messages=messages)

    async def _remember(
        self, request: AgentInput[Question], context: AgentContext, before: Conversation, asked: Sequence[Asked]
    ) -> None:
        """Any replica that shares the sessions can follow up."""
        answered = [one for one in asked if one.answers]
        if request.session_id is None or not answered:
            return
        message: Mapping[str, Any] = {
            "role": "user",
            "content": request.data.question,
            "domains": [one.domain for one in answered],
            "conversations": {
                **before.ids,
                **{one.domain: one.conversation_id for one in answered if one.conversation_id},
            },
            "messages": {one.domain: one.message_id for one in answered},
        }
        try:
            with context.within(SESSIONS_SHARE):
                now = await self.services.sessions.keep(
                    agent=self.name, user=context.identity.user, session_id=request.session_id, messages=[message]
                )
            if not now:
                context.degrade("sessions: unavailable, this question is kept when the database is back")
        except LakemeshError as error:
            context.degrade(f"sessions: unavailable, this question is not kept: {error.detail}")


async def read(
    genie: Genie, space_id: str, name: str, question: str, answer: GenieAnswer, *, units: Mapping[str, str]
) -> Asked:
    """What a domain answered, with the rows of each of its queries."""
    if not answer.queries:
        return Asked(
            domain=name,
            conversation_id=answer.conversation_id,
            refusal=answer.text or "It has no data for this question.",
            choices=answer.suggested_questions,
        )
    found = []
    for query in answer.queries:
        result = await genie.fetch_rows(space_id, answer, query)
        rows = [[cell_of(cell) for cell in row] for row in result.rows]
        found.append(
            DomainAnswer(
                domain=name,
                sql=query.statement,
                columns=list(result.columns),
                types=list(result.types),
                rows=rows,
                truncated=result.truncated,
                text=answer.text or query.description,
                suggested_questions=list(answer.suggested_questions),
                units={column: units[column] for column in result.columns if column in units},
                chart=chart_of(question, list(result.columns), rows, units),
            )
        )
    return Asked(domain=name, conversation_id=answer.conversation_id, message_id=answer.message_id, answers=found)


def cell_of(cell: Any) -> Any:
    """A cell as JSON has it; decimals as numbers, which charts and checks need."""
    if isinstance(cell, Decimal):
        return float(cell)
    return to_jsonable_python(cell, inf_nan_mode="null", fallback=str)


def choices_of(asked: Sequence[Asked]) -> list[str]:
    """What an ambiguous question may mean, when nobody answered it."""
    return [] if any(one.answers for one in asked) else [choice for one in asked for choice in one.choices]


def note_scores(route: Route) -> None:
    """The routing, for whoever reads the trace."""
    span = get_current_span()
    span.set_attribute("lakemesh.analyst.domains", list(route.domains))
    for one in route.scores[:5]:
        span.set_attribute(f"lakemesh.analyst.score.{one.domain}", one.score)
        span.set_attribute(f"lakemesh.analyst.lexical.{one.domain}", one.lexical)
        if one.embedding is not None:
            span.set_attribute(f"lakemesh.analyst.embedding.{one.domain}", one.embedding)


def shown(one: Scored) -> DomainScore:
    embedding = None if one.embedding is None else round(one.embedding, 3)
    return DomainScore(domain=one.domain, score=round(one.score, 3), lexical=round(one.lexical, 3), embedding=embedding)
