"""Measure how often two pipelines give the same annotations on the same documents."""

from collections.abc import Sequence

from spacy.tokens import Doc, Token

CHOSEN = 0.5  # score from which a category counts as given


def agreement(ours: Sequence[Doc], theirs: Sequence[Doc]) -> float:
    """Share of equal annotations of two pipelines, 0 to 1; 1 if there is nothing to compare.

    A token counts as equal if its tags, morphology, head, dependency label and entity are equal; a document with
    categories, if its best category and those that reach `CHOSEN` are.

    ours, theirs: the same documents, in the same order.
    Raises ValueError if documents or tokens differ in number.
    """
    same = total = 0
    for our, their in zip(ours, theirs, strict=True):
        total += len(our)
        same += sum(_of_token(a) == _of_token(b) for a, b in zip(our, their, strict=True))
        if our.cats or their.cats:
            total += 1
            same += _of_document(our) == _of_document(their)
    return same / total if total else 1.0


def _of_token(token: Token) -> tuple[int | str, ...]:
    return token.tag, token.pos, str(token.morph), token.head.i, token.dep, token.ent_iob, token.ent_type


def _of_document(doc: Doc) -> tuple[str | None, list[str]]:
    best = max(doc.cats, key=doc.cats.__getitem__, default=None)
    return best, sorted(label for label, score in doc.cats.items() if score >= CHOSEN)
