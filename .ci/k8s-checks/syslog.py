"""Runs rsyslog and syslog-ng with the configurations of k8s/shippers against a log that grows and is rotated as the
receiver rotates it, and checks that each line arrives exactly once, megabytes long ones included, and that no
credential does.

usage: syslog.py rsyslog|syslog-ng ROOT     ROOT: a directory with the Debian packages' files in it
"""

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CREDENTIAL = "aHVudGVyMjpob3VzZQ=="
ROUNDS, LINES_A_ROUND = 6, 150
DEADLINE_S = int(os.environ.get("DEADLINE_S", "90"))


def line(number: int, size: int) -> bytes:
    """An AdmissionReview's line; every tenth is about a Secret."""
    secret = number % 10 == 0
    resource = {"group": "", "version": "v1", "resource": "secrets" if secret else "configmaps"}
    data = {"password": CREDENTIAL} if secret else {"text": "<ä\u0001\\\"%s" % ("x" * size)}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": data})} if secret else {}
    review = {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": f"uid-{number:06}",
            "kind": {"group": "", "version": "v1", "kind": "Secret" if secret else "ConfigMap"},
            "resource": resource,
            "name": f"name-{number}",
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "alice"},
            "object": {"metadata": {"annotations": annotations}, "data": data},
            "oldObject": None,
        },
        "requestReceivedTimestamp": "2026-11-20T21:34:38.123456789Z",
    }
    return json.dumps(review, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Receiver(threading.Thread):
    """Takes newline-delimited messages."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.messages: list[bytes] = []
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.read, args=(connection.makefile("rb"),), daemon=True).start()

    def read(self, stream) -> None:
        for message in stream:
            self.messages.append(message.removesuffix(b"\n"))


def patched(path: pathlib.Path, replacements: dict[str, str]) -> str:
    text = path.read_text()
    for old, new in replacements.items():
        if old not in text:
            sys.exit(f"{path} no longer has {old!r}; adapt this check")
        text = text.replace(old, new)
    return text


def main() -> None:
    program, root = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="syslog-check-"))
    library_path = ":".join(
        str(root / directory)
        for directory in ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu",
                          "lib/aarch64-linux-gnu", "usr/lib/syslog-ng")
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": library_path}
    running: list[subprocess.Popen] = []
    try:
        log = work / "log" / "kube-audit-rest.log"
        log.parent.mkdir()
        log.touch(0o600)

        def start(command: list[str]) -> subprocess.Popen:
            output = open(work / "output", "ab")
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=work)
            running.append(process)
            return process

        received = work / "received"
        if program == "rsyslog":
            modules = next(iter(root.glob("usr/lib/*/rsyslog")))
            port = free_port()
            (work / "spool").mkdir()
            (work / "receiver.spool").mkdir()
            # omrelp's own template has no header, so what the receiver got (%rawmsg%) is the line.
            (work / "receiver.conf").write_text(f"""
global(maxMessageSize="64m" workDirectory="{work}/receiver.spool" parser.escapeControlCharactersOnReceive="off")
module(load="imrelp")
template(name="line" type="string" string="%rawmsg%\\n")
input(type="imrelp" port="{port}" address="127.0.0.1" maxDataSize="64m")
action(type="omfile" file="{received}" template="line" flushOnTXEnd="on")
""")
            configuration = patched(
                REPOSITORY / "k8s/shippers/rsyslog/rsyslog.conf",
                {
                    "/var/log/kube-audit-rest": str(log.parent),
                    "/var/spool/rsyslog": f"{work}/spool",
                    "logs.example.com\" port=\"2514": f"127.0.0.1\" port=\"{port}",
                },
            )
            (work / "sender.conf").write_text(configuration)
            server = str(root / "usr/sbin/rsyslogd")
            subprocess.run([server, "-N1", "-M", str(modules), "-f", str(work / "sender.conf")], env=environment, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=work)
            start([server, "-n", "-M", str(modules), "-f", str(work / "receiver.conf"), "-i", str(work / "receiver.pid")])
            command = [server, "-n", "-M", str(modules), "-f", str(work / "sender.conf"), "-i", str(work / "sender.pid")]

            def messages() -> list[bytes]:
                return received.read_bytes().splitlines() if received.exists() else []

        else:
            modules = next(iter(root.glob("usr/lib/syslog-ng/[0-9]*")))
            sink = Receiver()
            (work / "buffer").mkdir()
            configuration = patched(
                REPOSITORY / "k8s/shippers/syslog-ng/syslog-ng.conf",
                {
                    "/var/log/kube-audit-rest": str(log.parent),
                    "/var/lib/syslog-ng/buffer": f"{work}/buffer",
                    "\"logs.example.com\" port(6514)": f"\"127.0.0.1\" port({sink.port})",
                },
            )
            (work / "sender.conf").write_text(configuration)
            command = [str(root / "usr/sbin/syslog-ng"), "-F", "--no-caps", "--module-path", str(modules),
                       "-f", str(work / "sender.conf"), "--persist-file", str(work / "persist"),
                       "--control", str(work / "control"), "--pidfile", str(work / "pid")]

            def messages() -> list[bytes]:
                return list(sink.messages)

        sender = start(command)
        expected: list[bytes] = []

        def arrived() -> None:
            """Waits until as many lines have arrived as were written; the comparison comes at the end."""
            end = time.monotonic() + DEADLINE_S
            while len(messages()) < len(expected) and time.monotonic() < end:
                if sender.poll() is not None:
                    sys.exit(f"{program} ended with {sender.returncode}:\n" + (work / "output").read_text(errors="replace"))
                time.sleep(0.2)

        stream = open(log, "ab", buffering=0)
        for turn in range(ROUNDS):
            for index in range(LINES_A_ROUND):
                number = turn * LINES_A_ROUND + index
                # Bytes of text: mostly small, some over each shipper's default, one as large as reviews were seen.
                size = 28_000_000 if number == 405 else 3_000_000 if index == 149 else 200_000 if index % 50 == 7 else 40 * index
                text = line(number, size)
                stream.write(text)
                expected.append(text[:-1])
                if index == LINES_A_ROUND - 40:
                    arrived()
                if index == LINES_A_ROUND - 20:
                    # As the receiver rolls: rename, open a new one. The twenty lines before this are not read yet.
                    stream.close()
                    log.rename(log.with_name(f"kube-audit-rest-2026-11-20T21-34-{turn:02}.123.log"))
                    stream = open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)
            arrived()
            if turn == 2:
                # A restart must not repeat or skip a line.
                sender.send_signal(signal.SIGTERM)
                sender.wait(30)
                sender = start(command)
        stream.close()
        arrived()

        def uid(message: bytes) -> str:
            found = re.search(rb"uid-\d{6}", message)
            return found.group().decode() if found else "none"

        # A line too many would come now.
        time.sleep(1)
        got = messages()
        count = collections.Counter(map(uid, got))
        failures = []
        by_uid = {uid(message): message for message in got}
        for number, text in enumerate(expected):
            name = uid(text)
            if count[name] != 1:
                failures.append(f"{name} ({len(text)} bytes) arrived {count[name]} times")
            elif number % 10 == 0:
                review = json.loads(by_uid[name])
                if "redacted" not in review or review["request"]["userInfo"]["username"] != "alice":
                    failures.append(f"{name}: redacted wrongly: {by_uid[name][:300]!r}")
            elif by_uid[name] != text:
                failures.append(f"{name} ({len(text)} bytes) was changed ({len(by_uid[name])} bytes): ...{by_uid[name][-40:]!r}")
        if count["none"]:
            failures.append(f"{count['none']} messages are none of ours: {[m[:200] for m in got if uid(m) == 'none'][:3]}")
        if CREDENTIAL.encode() in b"".join(got):
            failures.append("a credential arrived")
        longest = max(map(len, expected))
        if failures:
            print("\n".join(failures[:10]), f"... {len(failures)} failures", sep="\n")
            print((work / "output").read_text(errors="replace")[-3000:])
            sys.exit(1)
        print(f"{program}: {len(expected)} lines in {ROUNDS + 1} files, the longest of {longest} bytes, each arrived once")
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
