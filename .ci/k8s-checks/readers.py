"""Runs programs that follow a log by its name (tail -F, sec, mtail, Perl's File::Tail) on one that grows and is rotated as
the receiver rotates it, all of them at once, and checks that each sees every line exactly once through nine rotations.

usage: readers.py ROOT     ROOT: a directory with the Debian packages' files in it
"""

import collections
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from syslog import free_port, line

ROTATIONS, LINES_A_ROUND, UNREAD = 9, 60, 20
WARMING = 900_000
DEADLINE_S = int(os.environ.get("DEADLINE_S", "90"))

FILE_TAIL = """
use File::Tail;
$| = 1;
my $file = File::Tail->new(name => $ARGV[0], tail => 0, reset_tail => -1, interval => 0.1, maxinterval => 0.2, resetafter => 0.5);
while (defined(my $line = $file->read)) { print $line }
"""
SEC = """
type=Single
ptype=RegExp
pattern=^(.*)$
desc=a line
action=write - $1
"""
MTAIL = """
counter lines by uid
/"uid":"(?P<uid>uid-[0-9]+)"/ {
  lines[$uid]++
}
"""


class Reader:
    def __init__(self, name: str, work: pathlib.Path, command: list[str], port: int | None = None, **environment: str) -> None:
        self.name, self.port = name, port
        self.received, self.said = work / f"{name}.received", work / f"{name}.said"
        with open(self.received, "wb") as output, open(self.said, "wb") as errors:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **environment}, cwd=work)

    def seen(self) -> collections.Counter:
        """How often each line was seen, by its uid."""
        if self.process.poll() is not None:
            sys.exit(f"{self.name} ended with {self.process.returncode}: {self.said.read_text(errors='replace')[-2000:]}")
        if self.port is None:
            # What has no newline yet is not a line.
            lines = self.received.read_bytes().split(b"\n")[:-1]
            return collections.Counter(uid.decode() for text in lines for uid in re.findall(rb'"uid":"(uid-\d+)"', text))
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5).read().decode()
        except (OSError, ValueError):
            return collections.Counter()
        return collections.Counter({uid: int(float(n)) for uid, n in re.findall(r'^lines\{[^}]*uid="([^"]+)"[^}]*\} (\S+)$', page, re.M)})


def warming(uid: str) -> bool:
    return uid == f"uid-{WARMING:06}"


def ready(port: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing listens on {port}")


def main() -> None:
    root = pathlib.Path(sys.argv[1]).resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="readers-check-"))
    readers: list[Reader] = []
    try:
        log = work / "log" / "kube-audit-rest.log"
        log.parent.mkdir()
        log.touch(0o600)
        for name, text in {"file-tail.pl": FILE_TAIL, "sec.conf": SEC, "lines.mtail": MTAIL}.items():
            (work / name).write_text(text)
        port = free_port()
        readers = [
            Reader("tail", work, ["tail", "--lines=+1", "-F", str(log)]),
            Reader("file-tail", work, ["perl", str(work / "file-tail.pl"), str(log)], PERL5LIB=str(root / "usr/share/perl5")),
            Reader("sec", work, ["perl", str(root / "usr/bin/sec"), f"--conf={work}/sec.conf", f"--input={log}", "--bufsize=1"]),
            Reader("mtail", work, [str(root / "usr/bin/mtail"), "--progs", str(work / "lines.mtail"), "--logs", str(log),
                                   "--address", "127.0.0.1", "--port", str(port), "--logtostderr"], port=port),
        ]
        ready(port)
        expected = collections.Counter()

        def counted(reader: Reader) -> collections.Counter:
            return collections.Counter({uid: times for uid, times in reader.seen().items() if not warming(uid)})

        def arrived() -> None:
            """Waits until each reader has seen as many lines as were written; which ones is compared at the end."""
            end = time.monotonic() + DEADLINE_S
            for reader in readers:
                while counted(reader).total() < expected.total():
                    if time.monotonic() > end:
                        return
                    time.sleep(0.2)

        stream = open(log, "ab", buffering=0)
        # They begin at the end of the file, whenever they come to it: what is written until then does not count.
        end = time.monotonic() + DEADLINE_S
        while not all(any(map(warming, reader.seen())) for reader in readers):
            if time.monotonic() > end:
                sys.exit("; ".join(f"{r.name}: {r.seen().total()} {r.said.read_text(errors='replace')[-800:]!r}" for r in readers))
            stream.write(line(WARMING, 10))
            time.sleep(0.3)
        for turn in range(ROTATIONS + 1):
            for index in range(LINES_A_ROUND):
                number = turn * LINES_A_ROUND + index
                # Bytes of text: mostly small, one in each file larger than a pipe or a page cache's read-ahead.
                stream.write(line(number, 200_000 if index == 7 else 40 * index))
                expected[f"uid-{number:06}"] += 1
                if index == LINES_A_ROUND - UNREAD - 10:
                    # A reader that has not opened a file before it is rolled cannot know of it.
                    arrived()
                if index == LINES_A_ROUND - 10 and turn < ROTATIONS:
                    stream.close()
                    log.rename(log.with_name(f"kube-audit-rest-2026-11-20T21-34-{turn:02}.123.log"))
                    stream = open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)
        stream.close()
        arrived()
        # A line too many would come now.
        time.sleep(1)
        failures = []
        for reader in readers:
            seen = counted(reader)
            missing, twice = expected - seen, seen - expected
            if missing or twice:
                failures.append(f"{reader.name}: {missing.total()} lines missing, {twice.total()} too many: {list(missing | twice)[:5]}; "
                                f"it said {reader.said.read_text(errors='replace')[-500:]!r}")
        if failures:
            sys.exit("\n".join(failures))
        print(f"{', '.join(reader.name for reader in readers)}: {expected.total()} lines through {ROTATIONS} rotations, each once")
    finally:
        for reader in readers:
            reader.process.kill()
            reader.process.wait()
        shutil.rmtree(work)


main()
