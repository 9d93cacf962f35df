"""A Zephyr module with a sample that MCUboot boots on trial, and that confirms itself when its bits are right."""

from collections.abc import Mapping

from services.artifact_builder.firmware.libraries.contents import (
    LibraryOrder,
    common_values,
    filled,
    readme,
)
from services.artifact_builder.firmware.libraries.layout import c_list, split_sources


def zephyr_module(order: LibraryOrder) -> Mapping[str, str]:
    """Return the module's files by path, the root folder not included."""
    sources = split_sources(order)
    values = {**common_values(order), "SOURCES": c_list(sources, "    {}")}
    return {
        **sources,
        "zephyr/module.yml": filled("zephyr/module.yml", values),
        "CMakeLists.txt": filled("zephyr/CMakeLists.txt", values),
        "Kconfig": filled("zephyr/Kconfig", values),
        "sample/CMakeLists.txt": filled("zephyr/sample/CMakeLists.txt", values),
        "sample/prj.conf": filled("zephyr/sample/prj.conf", values),
        "sample/sysbuild.conf": filled("zephyr/sample/sysbuild.conf", values),
        "sample/src/main.c": filled("zephyr/sample/main.c", values),
        "README.md": readme(order, filled("zephyr/build.md", values), "include/edgeloop.h"),
        "LICENSE": filled("LICENSE", {}),
    }
