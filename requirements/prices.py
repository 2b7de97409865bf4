"""Writes `maos_bot/models/prices.json` from the price list that the package `genai-prices` (MIT) keeps.

`pip install genai-prices`, then `python requirements/prices.py`. Taken are the models of the three providers whose
price is plain or in tiers of input; whatever depends on more is left out, and so counts as unknown.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).resolve().parent.parent / "maos_bot" / "models" / "prices.json"
PROVIDERS: Final = {"anthropic": "anthropic", "openai": "openai", "google": "gemini"}
FIELDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def main() -> None:
    """Read the installed package's data and write ours."""
    source = importlib.import_module("genai_prices.data")
    version = importlib.metadata.version("genai-prices")
    models: dict[str, Any] = {}
    for provider in source.providers:
        if provider.id in PROVIDERS:
            for model in provider.models:
                price = _price(model.prices)
                for name in _names(model) if price else ():
                    models.setdefault(f"{PROVIDERS[provider.id]}/{name}", price)
    data = {
        "source": f"genai-prices {version}",
        "date": datetime.now(UTC).date().isoformat(),
        "unit": "USD per million tokens; [tokens, price] from that many input tokens on",
        "models": dict(sorted(models.items())),
    }
    TARGET.write_text(json.dumps(data, indent=0) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(models)} models")


def _price(prices: Any) -> dict[str, Any] | None:
    if not hasattr(prices, "input_mtok"):
        return None
    price = {ours: _number(getattr(prices, theirs)) for ours, theirs in FIELDS.items()}
    return price if price["input"] is not None and price["output"] is not None else None


def _number(value: Any) -> Any:
    if value is None or not hasattr(value, "tiers"):
        return None if value is None else float(value)
    return [[0, float(value.base)], *([tier.start, float(tier.price)] for tier in value.tiers)]


def _names(model: Any) -> list[str]:
    said = re.findall(r"(?:equals|starts_with)='([^']+)'", repr(model.match))
    return sorted({model.id, *said})


if __name__ == "__main__":
    main()
