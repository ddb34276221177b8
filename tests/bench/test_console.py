"""How the command line speaks."""

import io
import json
import sys

import pytest

from joulelaw.bench.console import last_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_the_last_line_is_whole_for_programs_and_short_for_people(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = kind()
    monkeypatch.setattr(sys, "stdout", seen)
    last_line("fit", 0, out="law.json", coefficients=list(range(1000)), notes=[1])
    content = json.loads(seen.getvalue())
    assert (content["command"], content["out"], content["notes"]) == ("fit", "law.json", [1])
    if kind is Terminal:
        assert content["not_shown"] == ["coefficients"]
        assert "coefficients" not in content
    else:
        assert content["coefficients"] == list(range(1000))
        assert "not_shown" not in content
