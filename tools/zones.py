#!/usr/bin/env python3
"""Writes src/calendar/zones.rs, the clocks of every IANA time zone from 2026 on, from PyPI's package tzdata.
Usage: tools/zones.py, or tools/zones.py --check, which fails where the file isn't what this would write."""

import calendar
import importlib.resources
import re
import struct
import sys
import textwrap
from pathlib import Path

import tzdata

TABLE = Path(__file__).resolve().parent.parent / "src/calendar/zones.rs"
# A quota's period is never in the past, so nothing before this matters.
FIRST_YEAR = 2026
# Up to here each zone's rule is held against its list; no list of today's goes on for so long.
LAST_YEAR = 2100
# The database's word for a machine whose zone nobody has set.
NOT_A_ZONE = {"Factory"}
# How a text in Rust goes on in the next line.
BREAK = " \\"


def at(year, month=1, day=1):
    return calendar.timegm((year, month, day, 0, 0, 0))


def whole_minutes(seconds):
    assert seconds % 60 == 0, "the filter holds offsets and times of day in minutes"
    return seconds // 60


def read(name):
    """A zone's changes [(instant, minutes east of UTC)], and its rule for the time after them. RFC 9636 has the format."""
    data = (importlib.resources.files(tzdata) / "zoneinfo" / name).read_bytes()

    def block(start, word):
        isut, isstd, leap, times, types, chars = struct.unpack(">6l", data[start + 20 : start + 44])
        body = start + 44
        indices = body + times * word
        end = indices + times + types * 6 + chars + leap * (word + 4) + isstd + isut
        assert leap == 0, f"{name} counts leap seconds"
        instants = struct.unpack(f">{times}{'q' if word == 8 else 'l'}", data[body:indices])
        offsets = [struct.unpack(">lBB", data[i : i + 6])[0] for i in range(indices + times, indices + times + types * 6, 6)]
        return end, list(zip(instants, (offsets[i] for i in data[indices : indices + times])))

    end, _ = block(0, 4)
    end, changes = block(end, 8)
    return changes, data[end:].decode().strip("\n")


NAME = r"(?:[A-Za-z]{3,}|<[+-]?[A-Za-z0-9]+>)"
TIME = r"([+-]?\d+(?::\d+)?(?::\d+)?)"
DAY = rf"M(\d+)\.(\d)\.(\d)(?:/{TIME})?"


def minutes(text):
    sign = -1 if text.startswith("-") else 1
    hours, minute, second = ([int(part) for part in text.lstrip("+-").split(":")] + [0, 0])[:3]
    return sign * whole_minutes(hours * 3600 + minute * 60 + second)


class Rule:
    """A rule as POSIX's TZ writes it: an offset for ever, or two and the days of each year on which they begin."""

    def __init__(self, text):
        match = re.fullmatch(rf"{NAME}{TIME}(?:{NAME}{TIME}?,{DAY},{DAY})?", text)
        assert match, f"the filter has no rules like {text}"
        standard, summer, *days = match.groups()
        # POSIX counts west of Greenwich.
        self.standard = -minutes(standard)
        self.summer = self.days = None
        if days[0]:
            self.summer = -minutes(summer) if summer else self.standard + 60
            self.days = [(*map(int, day[:3]), minutes(day[3] or "2")) for day in (days[:4], days[4:])]

    def key(self):
        return (self.standard, self.summer, self.days)

    def changes(self):
        if not self.summer:
            return []
        return sorted(
            change
            for year in range(FIRST_YEAR, LAST_YEAR)
            for change in (
                (self.instant(year, self.days[0], self.standard), self.summer),
                (self.instant(year, self.days[1], self.summer), self.standard),
            )
        )

    @staticmethod
    def instant(year, day, offset):
        month, week, weekday, time = day
        weeks = [row[weekday] for row in calendar.Calendar(calendar.SUNDAY).monthdayscalendar(year, month) if row[weekday]]
        return at(year, month, weeks[min(week, len(weeks)) - 1]) + (time - offset) * 60


def clocks(name):
    """What the table holds of a zone: the offset before the listed changes, the changes, and the rule."""
    past_and_listed, posix = read(name)
    rule = Rule(posix)
    start, end = at(FIRST_YEAR), at(LAST_YEAR)
    past = [offset for instant, offset in past_and_listed if instant < start]
    before = offset = whole_minutes(past[-1]) if past else rule.standard
    listed = []
    for instant, seconds in past_and_listed:
        if instant >= start and whole_minutes(seconds) != offset:
            offset = whole_minutes(seconds)
            listed.append((instant, offset))
    # The rule alone holds after the last change that the file lists.
    last = past_and_listed[-1][0] if past_and_listed else start
    by_rule = [change for change in rule.changes() if start <= change[0] < end]
    real = listed + [change for change in by_rule if change[0] > last]
    # The list ends with the first change after which the rule is right about everything.
    wrong = max((instant for instant, _ in set(real) ^ set(by_rule)), default=None)
    if wrong is None:
        return rule.standard if not rule.summer else None, (), rule, posix
    needed = [change for change in real if change[0] <= wrong]
    if needed[-1][0] < wrong:
        needed.append(next(change for change in real if change[0] > wrong))
    return before, tuple(needed), rule, posix


def lines(text, indent, end=""):
    width = 120 - len(indent) - len(end)
    return f"{end}\n{indent}".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def rust():
    groups = {}
    for name in (importlib.resources.files(tzdata) / "zones").read_text().split():
        if name not in NOT_A_ZONE:
            before, changes, rule, posix = clocks(name)
            group = groups.setdefault((before, changes, str(rule.key())), (rule, set(), []))
            group[1].add(posix)
            group[2].append(name)
    lists, rows = [], []
    by_names = sorted(groups.items(), key=lambda item: min(item[1][2]))
    for (before, changes, _), (rule, posix, names) in by_names:
        value = f"Clocks::fixed({rule.standard})"
        if rule.summer is not None:
            begins, ends = (f"Day::new({', '.join(map(str, day))})" for day in rule.days)
            value = f"Clocks::summer({rule.standard}, {begins}, {rule.summer}, {ends})"
        if changes:
            list_name = re.sub(r"[^A-Z]", "_", min(names).split("/")[-1].upper())
            # No line ends within a pair.
            pairs = lines(" ".join(f"({instant},_{offset})," for instant, offset in changes), "    ").replace("_", " ")
            lists.append(f"const {list_name}: &[(u32, i16)] = &[\n    {pairs}\n];\n")
            value += f".after({before}, {list_name})"
        rows.append(f"    // {' = '.join(sorted(posix))}")
        row = f'    ({value}, "{" ".join(sorted(names))}"),'
        if len(row) > 120:
            row = f'    ({value}, "\\\n        {lines(" ".join(sorted(names)), "        ", BREAK)}"),'
        rows.append(row)
    return f"""//! What the clocks of every IANA time zone show from {FIRST_YEAR} on, by the tz database {tzdata.IANA_VERSION}.
//!
//! Written by `tools/zones.py`, which is where to change it. `tools/check.sh` holds the two together.

use super::zone::{{Clocks, Day}};

{chr(10).join(lists)}
/// Clocks, and the names of the zones that have them.
pub(super) static ZONES: &[(Clocks, &str)] = &[
{chr(10).join(rows)}
];
"""


text = rust()
if sys.argv[1:] == ["--check"]:
    if TABLE.read_text(encoding="utf-8") != text:
        sys.exit(f"{TABLE.name} is not what tools/zones.py writes: run .venv/bin/python3 tools/zones.py")
elif sys.argv[1:]:
    sys.exit(__doc__)
else:
    TABLE.write_text(text, encoding="utf-8")
