"""The two folders of a C library: what its users include, and the rest."""

from collections.abc import Iterable, Mapping

from services.artifact_builder.firmware.libraries.contents import PUBLIC_HEADERS, LibraryOrder, sources_of


def split_sources(order: LibraryOrder) -> Mapping[str, str]:
    """Return the C files by path: public headers below ``include``, everything else below ``src``."""
    return {
        f"{'include' if name in PUBLIC_HEADERS else 'src'}/{name}": text
        for name, text in sources_of(order.model, order.facts).items()
    }


def c_list(paths: Iterable[str], line: str) -> str:
    """Return the paths of C sources, sorted, each formatted as `line`."""
    return "\n".join(line.format(path) for path in sorted(paths) if path.endswith(".c"))
