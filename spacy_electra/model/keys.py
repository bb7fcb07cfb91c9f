"""Check the keys of a config section. Takes names, raises one error that suggests the nearest valid one."""

import difflib
from collections.abc import Collection


def check_keys(
    given: Collection[str], *, valid: Collection[str], required: Collection[str], where: str, what: str = "key"
) -> None:
    """Raise ValueError for unknown keys, each with the nearest valid one, otherwise for missing keys.

    where: the section as the config writes it, e.g. "[training]".
    what: what the names are, for the message.
    """
    if unknown := [name for name in given if name not in valid]:
        if len(unknown) == 1:
            told = f"an unknown {what} {unknown[0]!r}: did you mean {nearest(unknown[0], valid)!r}?"
        else:
            told = f"{len(unknown)} unknown {what}s: {', '.join(_with_nearest(name, valid) for name in unknown)}."
        raise ValueError(f"{where} has {told} Valid are {', '.join(sorted(valid))}.")
    if missing := [name for name in required if name not in given]:
        names = ", ".join(map(repr, missing))
        raise ValueError(
            f"{where} lacks the {what}{'s' if len(missing) > 1 else ''} {names}: copy from what `python -m spacy "
            f"electra init-config` writes."
        )


def _with_nearest(name: str, valid: Collection[str]) -> str:
    alike = difflib.get_close_matches(name, sorted(valid), n=1, cutoff=0.6)
    return f"{name!r} (did you mean {alike[0]!r}?)" if alike else repr(name)


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
