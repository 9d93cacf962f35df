"""What is installed where the build runs."""

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Final

from shared.artifacts.environment import Environment, Package
from shared.releases.licences import NOASSERTION, spdx_or_noassertion

OWN_DISTRIBUTION: Final = "edgeloop"
_ROOT: Final = Path(__file__).parents[3]
_OWN_FOLDERS: Final = ("services/artifact_builder", "shared", "firmware")
_OWN_SUFFIXES: Final = frozenset({".py", ".c", ".h", ".in", ".ld", ".toml"})
# What an installer writes on this machine, and no wheel brings along.
_INSTALLERS_OWN: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
_NAMES: Final[Mapping[str, str]] = {
    "Apache License 2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}
"""What people write into the field that came before expressions, where it is beyond doubt."""
_CLASSIFIERS: Final[Mapping[str, str]] = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""Classifiers that name one licence, and the same as SPDX writes it. "BSD License" does not say which."""


@lru_cache(maxsize=1)
def installed_packages() -> tuple[Package, ...]:
    """Return every installed distribution but Edgeloop itself. Read once: it takes a second."""
    found = {
        (name, found.version): Package(
            name=name, version=found.version, licence=_licence(found), files=_files_digest(found)
        )
        for found in metadata.distributions()
        if (name := found.metadata["Name"]) and name.lower() != OWN_DISTRIBUTION
    }
    return tuple(found[key] for key in sorted(found))


def current_environment(compiler: str) -> Environment:
    """Return what builds here and now."""
    libc = " ".join(platform.libc_ver())
    return Environment(
        edgeloop=metadata.version(OWN_DISTRIBUTION),
        sources=_own_sources(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()} {libc}".strip(),
        compiler=compiler,
        packages=installed_packages(),
    )


@lru_cache(maxsize=1)
def _own_sources() -> str:
    """Return the digest of the code that builds."""
    files = sorted(
        (file.relative_to(_ROOT).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest())
        for folder in _OWN_FOLDERS
        for file in (_ROOT / folder).rglob("*")
        if file.suffix in _OWN_SUFFIXES and file.is_file()
    )
    return f"sha256:{hashlib.sha256(repr(files).encode()).hexdigest()}"


def _licence(found: metadata.Distribution) -> str:
    said = found.metadata.json
    for field in ("license_expression", "license"):
        value = str(said.get(field, "")).strip()
        if (expression := spdx_or_noassertion(_NAMES.get(value, value))) != NOASSERTION:
            return expression
    classified = [
        _CLASSIFIERS.get(value.rpartition(" :: ")[2], "")
        for value in said.get("classifier", ())
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    return classified[0] if len(classified) == 1 and classified[0] else NOASSERTION


def _files_digest(found: metadata.Distribution) -> str | None:
    """Return the digest over the files that the wheel brought, by what RECORD says of them."""
    record = found.read_text("RECORD")
    if record is None:
        return None
    lines = sorted(line for line in record.splitlines() if _is_of_the_wheel(line))
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}" if lines else None


def _is_of_the_wheel(line: str) -> bool:
    name, _, rest = line.partition(",")
    # Scripts beside site-packages name this machine's interpreter; byte code is compiled here, and has no hash.
    return rest.startswith("sha256=") and not name.startswith("..") and not name.endswith(_INSTALLERS_OWN)
