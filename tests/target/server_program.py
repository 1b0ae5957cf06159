"""A one-file OpenAI-like server, standard library only, with the bad habits the tests ask for.

python server_program.py --port P [--model M] [--key K] [--mode MODE] [--pids FILE] [--delay S] [--cert PEM]
MODE: ok | die (at start) | hang (never ready) | stubborn (ignores SIGTERM) | children (two, one a daemon that left)
      | gzip (whatever is asked for) | chatty (logs the headers of every request)
"""

import argparse
import gzip
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def handler(options):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "tiny", ""

        def log_message(self, *args):
            if options.mode == "chatty":
                print("from", dict(self.headers), file=sys.stderr, flush=True)

        def reply(self, status, body, kind="application/json", extra=()):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            if options.mode == "gzip":
                data, extra = gzip.compress(data), [*extra, ("Content-Encoding", "gzip")]
            self.send_response(status)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), *extra):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def allowed(self):
            if options.key and self.headers.get("Authorization") != f"Bearer {options.key}":
                self.reply(401, {"error": {"message": f"wrong key: {self.headers.get('Authorization')}"}})
                return False
            if options.header and self.headers.get("X-Tenant") != options.header:
                self.reply(403, {"error": {"message": "wrong tenant"}})
                return False
            return True

        def do_GET(self):
            path = self.path.removeprefix(options.base)
            if path == "/health":
                self.reply(503 if options.mode == "hang" else 200, {})
            elif path == "/v1/models" and options.mode == "unlisted":
                self.reply(404, {"error": "no"})
            elif path == "/v1/models" and options.mode == "redirect":
                self.reply(
                    307, {}, extra=[("Location", f"http://elsewhere/{self.headers.get('Authorization')}?token=x")]
                )
            elif path == "/v1/models" and options.mode == "html":
                self.reply(200, b"<html>hello</html>", "text/html")
            elif path == "/v1/models":
                if self.allowed():
                    entry = {"owned_by": "vllm", "root": "org/tiny", "max_model_len": 4096}
                    self.reply(200, {"data": [{"id": name, **entry} for name in options.model.split(",")]})
            elif path == "/version":
                self.reply(200, {"version": "1.2.3"})
            else:
                self.reply(404, {"error": {"message": "not here"}})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.removeprefix(options.base)
            if not self.allowed():
                return
            if path == "/tokenize" and "prompt" in body:
                self.reply(200, {"tokens": [len(w) for w in body["prompt"].split()]})
            elif path in ("/v1/completions", "/v1/chat/completions"):
                self.answer(body, "chat" in path)
            else:
                self.reply(404, {})

        def answer(self, body, chat):
            prompt = body["messages"][0]["content"] if chat else body["prompt"]
            count = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
            usage = {"prompt_tokens": count, "completion_tokens": 1, "total_tokens": count + 1}
            if not body.get("stream"):
                return self.reply(200, {"choices": [], "usage": usage})
            if options.mode == "nostream":
                return self.reply(
                    400, {"error": {"message": f"stream is not supported, {self.headers.get('Authorization')}"}}
                )
            choice = {"delta": {"content": "a"}} if chat else {"text": "a"}
            events = [{"choices": [choice]}]
            if options.mode != "nousage":
                events.append({"choices": [], "usage": usage})
            text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
            return self.reply(200, text.encode(), "text/event-stream")

    return Handler


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("model", "tiny"), ("key", ""), ("mode", "ok"), ("pids", ""), ("base", ""), ("cert", "")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--header", default="")
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    if options.mode == "die":
        print("loading weights", flush=True)
        sys.exit("out of memory: cannot allocate the cache")
    if options.mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [os.getpid()]
    if options.mode == "children":
        pids.append(subprocess.Popen([sys.executable, "-c", SLEEPER]).pid)
        # a daemon: its own session, and its parent ends at once
        spawn = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"  # noqa: E501
        pids.append(int(subprocess.run([sys.executable, "-c", spawn], capture_output=True, text=True).stdout))
    if options.pids:
        Path(options.pids).write_text(json.dumps(pids))
    time.sleep(options.delay)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(options))
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
