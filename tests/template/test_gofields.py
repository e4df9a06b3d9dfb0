"""Fields that no value has, found in the text of a Go template."""

import pytest

from puna.template.builtin import builtin_parameters, builtin_template
from puna.template.gofields import unknown_field


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ .Prompt }}", None),
        ("{{ .Promt }}", ("Promt", 1, "Prompt")),
        ("{{ .System }}\n{{ if .Tools }}\n{{ .prompt }}{{ end }}", ("prompt", 3, "Prompt")),
        ("{{ range $i, $m := .Messages }}{{ $m.Role }}{{ $m.Contents }}{{ end }}", ("Contents", 1, "Content")),
        ("{{ $last := 1 }}{{ $last }}{{ $.System }}{{/* .Nope */}}{{ print `.Nope` }}", None),
        ("{{ range .Tools }}{{ .Function.Parameters.Properties }}{{ .Xyzzy }}{{ end }}", ("Xyzzy", 1, "")),
    ],
)
def test_the_first_unknown_field_is_found_with_its_line(text: str, found: tuple[str, int, str] | None) -> None:
    assert unknown_field(text) == found


@pytest.mark.parametrize("name", builtin_parameters())
def test_templates_that_come_with_puna_read_what_there_is(name: str) -> None:
    assert unknown_field(builtin_template(name)) is None
