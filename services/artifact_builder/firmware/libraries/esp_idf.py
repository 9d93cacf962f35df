"""An ESP-IDF component with an example of two slots, whose trial boot the self-test confirms."""

from collections.abc import Mapping

from services.artifact_builder.firmware.libraries.contents import LibraryOrder, common_values, filled, readme
from services.artifact_builder.firmware.libraries.layout import c_list, split_sources


def esp_idf_component(order: LibraryOrder) -> Mapping[str, str]:
    """Return the component's files by path, the root folder not included."""
    sources = split_sources(order)
    values = {**common_values(order), "SOURCES": c_list(sources, '    "{}"')}
    example = "examples/self_test"
    return {
        **sources,
        "CMakeLists.txt": filled("esp_idf/CMakeLists.txt", values),
        "idf_component.yml": filled("esp_idf/idf_component.yml", values),
        f"{example}/CMakeLists.txt": filled("esp_idf/example/CMakeLists.txt", values),
        f"{example}/sdkconfig.defaults": filled("esp_idf/example/sdkconfig.defaults", values),
        f"{example}/main/CMakeLists.txt": filled("esp_idf/example/main_CMakeLists.txt", values),
        f"{example}/main/main.c": filled("esp_idf/example/main.c", values),
        "README.md": readme(order, filled("esp_idf/build.md", values), "include/edgeloop.h"),
        "LICENSE": filled("LICENSE", {}),
    }
