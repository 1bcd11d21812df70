"""`fraud_detector`: decides on a transaction and says why."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.schemas import Case, Contribution, FraudAssessment, RiskScore, Transaction
from lakemesh.agents.known_names import KnownNames
from lakemesh.errors import LakemeshError
from lakemesh.memory import MemoryMatch
from lakemesh.schemas import AgentInput, AgentOutput, Progress

PROMPT = "fraud_verdict"
MEMORY_SHARE = 0.3
MODEL_SHARE = 0.8
"""Of the time left, what each may take; the rest is for an answer without them."""
Decision = Literal["approve", "review", "block"]


class DetectorOptions(BaseModel):
    """Scores from `review_above` on are looked at closely, from `block_above` on they are blocked.

    Similar cases are those of the calling user. With `shared_cases` they are everybody's (`memory.shared_agents` has to
    name the agent too), and only callers of one of the groups `case_writers` add to them: a case must not be planted by
    whoever may ask."""

    model_config = ConfigDict(extra="forbid")

    scorer: str = "risk_scorer"
    review_above: float = Field(default=0.3, ge=0, le=1)
    block_above: float = Field(default=0.8, ge=0, le=1)
    similar_cases: int = Field(default=3, ge=0, le=20)
    shared_cases: bool = False
    case_writers: list[str] = []

    @model_validator(mode="after")
    def _in_order(self) -> "DetectorOptions":
        if self.block_above < self.review_above:
            raise ValueError("block_above lies below review_above")
        if self.shared_cases and not self.case_writers:
            raise ValueError("shared_cases needs case_writers, the groups whose callers add to them")
        return self


class Verdict(BaseModel):
    """What the language model is asked for: an account of the evidence. It has no say in score or decision."""

    reasons: list[str] = Field(min_length=1, max_length=5, description="each one short sentence, from the evidence")
    narrative: str = Field(max_length=2_000, description="two or three sentences for an analyst")


class FraudDetector(CriticalPathAgent[Transaction, FraudAssessment]):
    """Decides on a card transaction, with reasons and similar past cases."""

    input_model = Transaction
    output_model = FraudAssessment
    options_model = DetectorOptions
    options: DetectorOptions

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        return known.missing_agents("scorer", [options.scorer])

    async def process(self, request: AgentInput[Transaction], context: AgentContext) -> AgentOutput[FraudAssessment]:
        transaction = request.data
        scored = await context.call(self.options.scorer, transaction.model_dump(mode="json"))
        risk: RiskScore = scored.result
        decision = self._decide(risk.score)
        reasons = [reason(contribution) for contribution in risk.contributions] or ["Nothing speaks for a fraud."]
        assessment = FraudAssessment(fraud_score=risk.score, decision=decision, reasons=reasons)
        answer = AgentOutput(agent_name=self.name, result=assessment, confidence=scored.confidence)
        if decision == "approve":
            # Most transactions end here, and cost neither a memory nor a model call.
            return answer
        context.partial["answer"] = answer
        context.emit(Progress(progress=1, total=3, message=f"scored {risk.score:.3f}: {decision}"))
        with context.within(MEMORY_SHARE):
            cases = await self._similar_cases(transaction, risk, context)
        context.emit(Progress(progress=2, total=3, message=f"{len(cases)} similar cases"))
        with context.within(MODEL_SHARE):
            verdict = await self._verdict(transaction, risk, decision, reasons, cases, context)
        assessment = FraudAssessment(
            fraud_score=risk.score,
            decision=decision,
            reasons=verdict.reasons if verdict else reasons,
            narrative=verdict.narrative if verdict else None,
            similar_cases=cases,
        )
        await self._remember(transaction, risk, decision, context)
        return AgentOutput(agent_name=self.name, result=assessment, confidence=scored.confidence)

    async def degraded_answer(
        self, request: AgentInput[Transaction], context: AgentContext, error: LakemeshError
    ) -> AgentOutput[FraudAssessment] | None:
        """Once there is a score, there is a decision with its reasons, whatever fails of the cases and the account."""
        return context.partial.get("answer")

    def _decide(self, score: float) -> Decision:
        if score >= self.options.block_above:
            return "block"
        return "review" if score >= self.options.review_above else "approve"

    async def _similar_cases(self, transaction: Transaction, risk: RiskScore, context: AgentContext) -> list[Case]:
        """Past flagged transactions that read alike; none, and a degraded answer, when memory is away."""
        if not self.options.similar_cases:
            return []
        try:
            found = await context.memory.retrieve(
                describe(transaction, risk),
                agent_id=self.name,
                top_k=self.options.similar_cases,
                shared=self.options.shared_cases,
            )
        except (LakemeshError, TimeoutError) as error:
            context.degrade(f"similar cases: {getattr(error, 'detail', 'memory did not answer in time')}")
            return []
        return [as_case(match, context.identity.user) for match in found]

    async def _verdict(
        self,
        transaction: Transaction,
        risk: RiskScore,
        decision: Decision,
        reasons: list[str],
        cases: list[Case],
        context: AgentContext,
    ) -> Verdict | None:
        """The model's account of the evidence; None, and a degraded answer, when no model gives one or the prompt
        is away."""
        facts: dict[str, Any] = {
            "transaction": transaction.model_dump(mode="json"),
            "score": risk.score,
            "decision": decision,
            "reasons": reasons,
            "cases": [case.text for case in cases],
        }
        try:
            prompt = context.prompts.render(PROMPT, facts)
            messages = [{"role": "user", "content": prompt.text}]
            return await context.models.structured(
                messages, output=Verdict, route=prompt.route or "quality", temperature=prompt.temperature
            )
        except LakemeshError as error:
            context.degrade(f"verdict: {error.detail}")
            return None

    async def _remember(
        self, transaction: Transaction, risk: RiskScore, decision: Decision, context: AgentContext
    ) -> None:
        if self.options.shared_cases and not context.identity.groups & set(self.options.case_writers):
            return
        metadata = {
            "transaction_id": transaction.transaction_id,
            "decision": decision,
            "score": round(risk.score, 6),
        }
        try:
            await context.memory.remember(describe(transaction, risk), agent_id=self.name, metadata=metadata)
        except LakemeshError as error:
            context.degrade(f"this case is not remembered: {error.detail}")


def describe(transaction: Transaction, risk: RiskScore) -> str:
    """The transaction in words, for finding others like it."""
    signs = " ".join(contribution.feature for contribution in risk.contributions)
    hour = transaction.tx_datetime.hour
    return (
        f"amount {round(transaction.amount, -1):.0f} terminal {transaction.terminal_id} "
        f"customer {transaction.customer_id} hour {hour} signs {signs}"
    )


def reason(contribution: Contribution) -> str:
    """A contribution as a sentence an analyst can check."""
    what = contribution.feature.replace("_", " ")
    return f"{what[0].upper()}{what[1:]} is {contribution.value:,.4g}, which speaks for fraud."


def as_case(match: MemoryMatch, user: str) -> Case:
    return Case(
        source="yours" if match.user == user else "shared",
        memory_id=match.memory_id,
        similarity=round(match.score, 4),
        text=match.text,
        decision=match.metadata.get("decision"),
    )
