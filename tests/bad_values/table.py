"""Print the table of bad values: functions, values, and what each got. ``python tests/bad_values/table.py``."""

import collections
import sys
import tempfile
from pathlib import Path

from calls import calls
from tries import tries


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in calls(Path(folder)) if not sys.argv[1:] or any(part in name for part in sys.argv[1:])]
        found = [each for name in names for each in tries(name, calls(Path(folder))[name])]
    for each in found:
        if each.fault:
            print(f"{each.function}({each.argument}={each.value}): {each.got}: {each.said[:150]}".replace("\n", " "))
    counts = collections.Counter(each.got for each in found)
    arguments = {(each.function, each.argument) for each in found}
    print(f"{len(names)} functions, {len(arguments)} arguments, {len(found)} values: {dict(counts)}")


if __name__ == "__main__":
    main()
