"""Lines of the page's log are those of a terminal, however the output is cut. Node runs the module itself."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import leptond

MODULE = Path(leptond.__file__).parent / "api" / "web" / "ansi.js"
NODE = shutil.which("node")

CHECK = """
import { Terminal, plain } from "%s";
const cases = %s, wrong = [];
const lines = (pieces) => { const t = new Terminal(); for (const one of pieces) t.write(one); return t.lines.map((line) => line.map((p) => [p.text, p.cls])); };
for (const [text, wanted] of cases) {
  const whole = lines([text]);
  if (JSON.stringify(whole.map((line) => line.map((p) => p[0]).join(""))) !== JSON.stringify(wanted)) wrong.push([text.slice(0, 80), wanted, whole]);
  const step = Math.max(1, Math.floor(text.length / 300));
  for (let cut = 0; cut <= text.length; cut += step)
    if (JSON.stringify(lines([text.slice(0, cut), text.slice(cut)])) !== JSON.stringify(whole)) wrong.push([text.slice(0, 80), cut]);
  if (JSON.stringify(lines(text.split(""))) !== JSON.stringify(whole)) wrong.push([text.slice(0, 80), "each"]);
}
console.log(JSON.stringify(wrong));
"""  # noqa: E501

BAR = "".join(f"\r {n:3}%|{'#' * (n // 10):<10}|" for n in range(0, 101, 10)) + "\n"

CASES = [
    ("a\r\nb\n", ["a", "b"]),
    (BAR + "done\n", [" 100%|##########|", "done"]),
    ("50%\r", ["50%"]),
    ("50%\r\x1b[K60%", ["60%"]),
    ("\x1b[31mred\x1b[0m \x1b]0;" + "t" * 900 + "\x07x\x1b[1;2Hy\n", ["red xy"]),
    ("x" * 20_000 + "\ny\n", ["x" * 8192, "y"]),
    ("caf\u00e9 \U0001f600\n", ["caf\u00e9 \U0001f600"]),
]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_log_does_not_depend_on_how_the_output_was_cut(tmp_path):
    program = tmp_path / "check.mjs"
    shutil.copy(MODULE, tmp_path / "ansi.mjs")
    program.write_text(CHECK % ("./ansi.mjs", json.dumps(CASES)))
    found = subprocess.run([NODE, program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout) == []
