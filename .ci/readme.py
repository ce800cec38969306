"""Run every code block of README.md in order, in an empty folder: python .ci/readme.py FOLDER.

Shell blocks run as they stand; the one with `git clone` clones this checkout. The Python block becomes layer.py.
A text block shows some of the lines that the last command printed; only their numbers may differ.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
NUMBER = re.compile(r"[-+−]?\d[\d,.:]*(e[-+]?\d+)?")


def main(folder: Path) -> None:
    printed = ""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", (HERE / "README.md").read_text("utf-8"), re.M | re.S):
        if language == "sh" and "git clone" in block:
            subprocess.run(["git", "clone", "-q", HERE, folder / "npgpt"], check=True)
            folder = folder / "npgpt"
        elif language == "sh":
            print(f"$ {block.strip()}", flush=True)
            command = ["bash", "-ec", block]
            with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8") as running:
                assert running.stdout
                lines = [print(line, end="", flush=True) or line for line in running.stdout]
            printed = "".join(lines)
            if running.returncode:
                sys.exit(f"README.md: this block ended with exit code {running.returncode}:\n{block}")
        elif language == "python":
            (folder / "layer.py").write_text(block, encoding="utf-8")
        elif language == "text":
            missing = [line for line in block.splitlines() if without_numbers(line) not in without_numbers(printed)]
            if missing:
                sys.exit("README.md: the command did not print:\n" + "\n".join(missing))


def without_numbers(text: str) -> str:
    return " ".join(NUMBER.sub("#", text).split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
