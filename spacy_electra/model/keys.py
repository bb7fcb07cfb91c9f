"""Check the keys of a config section. Takes names, raises one error that suggests the nearest valid one."""

import difflib
from collections.abc import Collection


def check_keys(
    given: Collection[str], *, valid: Collection[str], required: Collection[str], where: str, what: str = "key"
) -> None:
    """Raise ValueError for the first unknown key, with the nearest valid one, otherwise for the first missing key.

    where: the section as the config writes it, e.g. "[training]".
    what: what the names are, for the message.
    """
    for name in given:
        if name not in valid:
            raise ValueError(
                f"{where} has an unknown {what} {name!r}: did you mean {nearest(name, valid)!r}? "
                f"Valid are {', '.join(sorted(valid))}."
            )
    for name in required:
        if name not in given:
            raise ValueError(
                f"{where} lacks the {what} {name!r}: take it from what `python -m spacy electra init-config` writes."
            )


def refuse_alike(name: str, known: Collection[str], *, where: str) -> None:
    """Raise ValueError if `name`, in a section that may have further names, is similar to one of `known`."""
    alike = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    if alike:
        raise ValueError(
            f"{where} has a key {name!r} that nothing uses: did you mean {alike[0]!r}? "
            f"Known are {', '.join(sorted(known))}."
        )


def nearest(name: str, valid: Collection[str]) -> str:
    """The valid name that is most similar to `name`."""
    return difflib.get_close_matches(name, sorted(valid), n=1, cutoff=0.0)[0]
