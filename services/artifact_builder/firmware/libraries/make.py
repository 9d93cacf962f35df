"""A static library with a Makefile, for vendors' SDKs that are made of Makefiles."""

from collections.abc import Mapping

from services.artifact_builder.firmware.libraries.contents import LibraryOrder, common_values, filled, readme
from services.artifact_builder.firmware.libraries.layout import split_sources


def make_library(order: LibraryOrder) -> Mapping[str, str]:
    """Return the library's files by path, the root folder not included."""
    compiler = order.target.target.split()[0]
    values = {
        **common_values(order),
        "COMPILER": order.target.target,
        "CROSS_GCC": compiler,
        "ARCHIVER": compiler.removesuffix("gcc") + "ar",
    }
    return {
        **split_sources(order),
        "Makefile": filled("make/Makefile", values),
        "sample/self_test.c": filled("make/self_test.c", values),
        "README.md": readme(order, filled("make/build.md", values), "include/edgeloop.h"),
        "LICENSE": filled("LICENSE", {}),
    }
