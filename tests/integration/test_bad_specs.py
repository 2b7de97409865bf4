"""300 specs with something wrong, each given to `maos validate`: exit code 2, a line number, no traceback."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from maos_bot.cli import main
from maos_bot.errors import SpecError
from maos_bot.spec.load import parse_spec
from tests.unit.spec_texts import FULL
from tests.unit.test_spec_fuzz import damage

WANTED = 300


def bad_specs() -> list[str]:
    """Damaged versions of a spec that uses every key, the harmless ones sorted out; the same each time."""
    found: list[str] = []
    dice = random.Random(2026)
    while len(found) < WANTED:
        data = YAML(typ="safe").load(FULL)
        for _ in range(dice.randint(1, 4)):
            damage(data, dice)
        text = json.dumps(data, indent=1)
        try:
            parse_spec(text, path="spec.yml")
        except SpecError:
            found.append(text)
    return found


def test_each_of_300_bad_specs_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["maos", "validate", "spec.yml"])
    for text in bad_specs():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capsys.readouterr())
        assert ended.value.code == 2, text
        assert re.search(r"spec\.yml:\d+:\d+: \S", said), said
        assert "Traceback" not in said
