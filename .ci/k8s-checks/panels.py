"""Runs the dashboard's queries against a real Prometheus that scrapes the real server, with pod and namespace as the
Prometheus operator sets them: no query fails, and each that is about the server alone and always has a value gives one.

usage: panels.py SERVER     SERVER: the program. Needs prometheus and openssl
"""

import http.client
import json
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from syslog import free_port, line

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_S = 90
# What has no value here: series of others, and of what did not happen.
EMPTY = re.compile(r"apiserver_|kube_pod_|> 0$")
TOKEN = "0123456789abcdef" * 2


def main() -> None:
    work = pathlib.Path(tempfile.mkdtemp(prefix="panels-check-"))
    running: list[subprocess.Popen] = []
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{work}/tls.key",
                        "-out", f"{work}/tls.crt"], check=True, capture_output=True)
        https, metrics, prometheus = free_port(), free_port(), free_port()
        (work / "sources").write_text(f"edge-1 {TOKEN}\n")
        messages = open(work / "messages", "wb")
        running.append(subprocess.Popen([sys.argv[1], f"--cert-filename={work}/tls.crt", f"--cert-key-filename={work}/tls.key",
                                         f"--logger-filename={work}/audit.log", "--logger-sync=always",
                                         f"--sources-filename={work}/sources", f"--policy-filename={REPOSITORY}/k8s/base/policy.yaml",
                                         "--server-address=127.0.0.1", f"--server-port={https}",
                                         "--metrics-address=127.0.0.1", f"--metrics-port={metrics}"], stderr=messages))
        (work / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: kube-audit-rest
    static_configs:
      - targets: ["127.0.0.1:{metrics}"]
        labels: {{namespace: kube-audit-rest, pod: kube-audit-rest-0}}
""")
        running.append(subprocess.Popen(["prometheus", f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/data",
                                         f"--web.listen-address=127.0.0.1:{prometheus}"], stdout=messages, stderr=messages))

        def query(expression: str) -> list:
            url = f"http://127.0.0.1:{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            return json.load(urllib.request.urlopen(url, timeout=10))["data"]["result"]

        trust = ssl.create_default_context(cafile=f"{work}/tls.crt")

        def send(number: int) -> None:
            client = http.client.HTTPSConnection("127.0.0.1", https, timeout=10, context=trust)
            client.request("POST", f"/log-request/{TOKEN}", line(number, 100), {"Content-Type": "application/json"})
            answer = client.getresponse()
            assert answer.status == 200, answer.read()
            client.close()

        end = time.monotonic() + DEADLINE_S
        sent = 0
        while True:
            try:
                send(sent + 1)
                sent += 1
                # A rate needs two scrapes, and here there is something to be counted between them.
                if sent > 3 and any(float(it["value"][1]) > 0 for it in query("rate(kube_audit_rest_audit_lines_total[1m])")):
                    break
            except OSError:
                pass
            if time.monotonic() > end or any(process.poll() is not None for process in running):
                sys.exit((work / "messages").read_text(errors="replace")[-3000:])
            time.sleep(0.5)

        panels = json.loads((REPOSITORY / "k8s/monitoring/dashboard.json").read_text())["panels"]
        asked, filled = 0, 0
        for panel in panels:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "1m").replace("$namespace", "kube-audit-rest")
                expression = expression.replace("$pod", ".*").replace("$source", "edge-1")
                try:
                    result = query(expression)
                except urllib.error.HTTPError as why:
                    sys.exit(f"{panel['title']}: {expression}: {why.read().decode()}")
                asked += 1
                filled += bool(result)
                if not result and not EMPTY.search(expression):
                    sys.exit(f"{panel['title']}: {expression}: no value")
                if "legendFormat" in target:
                    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                        if any(label not in series["metric"] for series in result):
                            sys.exit(f"{panel['title']}: no label {label} in what {expression} gives")
        print(f"{len(panels)} panels, {asked} queries, {filled} with a value after {sent} reviews")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
