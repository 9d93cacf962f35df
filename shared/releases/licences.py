"""SPDX licence expressions: which are valid, and what to say of one that is not.

Source: SPDX specification 2.3, annex D; the list of licences comes with the package license-expression.
"""

import difflib
from functools import lru_cache
from typing import Final

from license_expression import ExpressionError, ExpressionParseError, Licensing, get_spdx_licensing

NOASSERTION: Final = "NOASSERTION"
"""Nobody said under which licence it is."""
_OWN: Final = ("LicenseRef-", "DocumentRef-")


@lru_cache(maxsize=1)
def _spdx() -> Licensing:
    return get_spdx_licensing()


@lru_cache(maxsize=1024)
def licence_problem(expression: str) -> str | None:
    """Return what is wrong with a licence expression; None when it is valid, or says that nothing is known."""
    if expression in (NOASSERTION, "NONE"):
        return None
    licensing = _spdx()
    try:
        parsed = licensing.parse(expression, validate=False, strict=True)
        names = [] if parsed is None else licensing.license_keys(parsed)
    except (ExpressionError, ExpressionParseError) as error:
        return f"{expression[:80]!r} is no SPDX expression: {' '.join(str(error).split())}"
    if not names:
        return "an empty licence"
    for name in names:
        if not name.startswith(_OWN) and name not in licensing.known_symbols:
            near = difflib.get_close_matches(name, licensing.known_symbols, 1, 0.5)
            return f"SPDX lists no licence {name}" + (f"; did you mean {near[0]}?" if near else "")
    return None


def spdx_or_noassertion(expression: str | None) -> str:
    """Return the expression when it is valid, else NOASSERTION."""
    return expression if expression and licence_problem(expression) is None else NOASSERTION
