"""The reviewer of word rules and empty texts. Its verdicts are immediate, in the accepting transaction."""

from __future__ import annotations

from collections.abc import Sequence

from moderation import word_rules
from moderation.folding import fold, is_visible, mask
from moderation.matcher import Hit, MatchEffect, Matcher
from moderation.texts import replace_texts, texts_of
from rooms.errors import Code
from rooms.log.content import Content, Draft
from rooms.review.contract import AwaitedVerdict, Deferral, Verdict, VerdictAction

NOTHING_TO_SEE = "The message has no visible character. Write something that people can read."
FORBIDDEN = "The message holds something that is not allowed in this room. Change it and send it again."
MANY_TEXTS = 16


class LocalReviewer:
    """Refuses texts without a visible character, and applies the word rules."""

    name = "moderation"

    def review(self, drafts: Sequence[Draft]) -> list[Verdict | Deferral | None]:
        """Return a verdict for each draft, None without objection."""
        book = word_rules.read()
        return [_review(draft.content, book.matcher_for(draft.room)) for draft in drafts]

    def defer(self, awaited: Sequence[AwaitedVerdict]) -> None:
        """Do nothing: this reviewer never defers."""
        assert not awaited


def _review(content: Content, matcher: Matcher | None) -> Verdict | None:
    if _shows_nothing(content):
        return Verdict(action=VerdictAction.REJECT, code=Code.REJECTED_BY_VALIDATION, reason=NOTHING_TO_SEE)
    return _apply_rules(content, matcher) if matcher is not None else None


def _shows_nothing(content: Content) -> bool:
    """Return whether a message is a plain text without a visible character.

    An empty text, or none, is allowed: such a message is a signal that has only a name.
    """
    is_plain_text = bool(content.text) and not content.encoding and content.extras is None
    return is_plain_text and content.text is not None and not is_visible(content.text)


def _apply_rules(content: Content, matcher: Matcher) -> Verdict | None:
    texts = list(dict.fromkeys(texts_of(content)))
    # JSON may hold a thousand short texts: they are matched together, and one by one only if that matches.
    if len(texts) > MANY_TEXTS and not matcher.find(fold("\n".join(texts))):
        return None
    found = {text: hits for text in texts if (hits := matcher.find(fold(text)))}
    if not found:
        return None
    strongest = min((hit for hits in found.values() for hit in hits), key=_weakness)
    if strongest.rule.effect is MatchEffect.REJECT:
        reason = strongest.rule.reason or FORBIDDEN
        return Verdict(action=VerdictAction.REJECT, code=Code.REJECTED_BY_MODERATION, reason=reason)
    if strongest.rule.effect is MatchEffect.HOLD:
        return Verdict(action=VerdictAction.HOLD, reason=f"Held by the word rule “{strongest.rule.name}”.")
    return Verdict(
        action=VerdictAction.REPLACE, content=replace_texts(content, lambda text: _mask(text, found.get(text, [])))
    )


def _weakness(hit: Hit) -> int:
    return (MatchEffect.REJECT, MatchEffect.HOLD, MatchEffect.MASK).index(hit.rule.effect)


def _mask(text: str, hits: Sequence[Hit]) -> str:
    return mask(text, [span for hit in hits for span in hit.spans])
