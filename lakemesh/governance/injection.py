"""Texts that try to give a model orders: told by how such texts are phrased.

A heuristic, and no more: it finds the common attempts and is blind to the clever ones. What may follow from text that
nobody vouches for is held by rules about its origin (`origins`), which need no guess.
"""

import re

MAX_CHARACTERS = 100_000
DROP = r"(?:ignore|disregard|forget|override|bypass|skip|neglect|drop|discard|do not (?:follow|obey))"
WHOSE = (
    r"(?:all|any|every|the|your|these|those|my|this|of|previous|prior|above|earlier|preceding|former|initial|original"
    r"|system)"
)
ORDERS = (
    r"(?:instructions?|prompts?|rules?|directions?|guidelines?|directives?|commands?|context|constraints?|programming"
    r"|training)"
)
TELL = r"(?:reveal|show|print|repeat|output|display|tell me|give me|leak|dump|what (?:is|are|were))"
PLAY = r"(?:pretend|act|behave|respond|role-?play)"
LIMITS = r"(?:restrictions?|rules?|limits?|limitations?|filters?|guidelines?|ethics|censorship)"
PHRASES = (
    rf"\b{DROP}\b(?:\s+{WHOSE}){{1,4}}\s+{ORDERS}",
    r"\b(?:ignore|disregard|forget)\s+(?:everything|all|anything|what)\s+(?:that\s+)?"
    r"(?:you|i|was|were|has been|above|before|said|told)",
    rf"\b{TELL}\b[^.\n]{{0,40}}\b(?:system|initial|original|hidden|secret)\s+{ORDERS}",
    rf"\b(?:your|the)\s+new\s+{ORDERS}\s+(?:is|are|:)|\bnew\s+{ORDERS}\s*:",
    r"\bfrom now on,?\s+you\s+(?:are|will|must|should|have)\b|\byou\s+(?:are|will be|must act)\s+(?:now|from now on)\b",
    rf"\b{PLAY}\b[^.\n]{{0,30}}\b(?:as if|as though|as an?|to be|like)\b[^.\n]{{0,60}}\b(?:no|without|any)\b"
    rf"[^.\n]{{0,20}}\b{LIMITS}",
    r"\b(?:DAN|developer|debug|god|admin|maintenance|unrestricted|jailbreak)\s+mode\b",
    r"\bdo anything now\b|\bjailbr(?:eak(?:en|ed|ing)?|oken)\b|\bunfiltered\b[^.\n]{0,30}\b(?:ai|assistant|answers?)\b",
    rf"\bwithout\s+(?:any\s+)?(?:moral|ethical)?\s*{LIMITS}\b",
    r"<\|?(?:im_start|im_end|system|endoftext)\|?>|\[/?INST\]|<</?SYS>>|^\s{0,8}#{2,6}\s{0,4}(?:system|instructions?)\b",
)
SUSPICIOUS = re.compile("|".join(PHRASES), re.IGNORECASE | re.MULTILINE)


def is_injection(text: str) -> bool:
    """Whether the text reads like orders to a model. Only its first 100,000 characters are read."""
    return SUSPICIOUS.search(text[:MAX_CHARACTERS]) is not None
