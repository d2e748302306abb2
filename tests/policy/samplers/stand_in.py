"""Speaks as much of vLLM's server as the sampler asks for: replies are the prompt's last ids, and the end token.

It writes down how it was started. With `broken` among its arguments it dies at once; with `--dies server` or `--dies
worker` and at its fifth request, it or the process that started it dies (`--once yes`: only the first of all servers).
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
note = {"arguments": sys.argv[1:], "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "asked": 0}
file = Path(os.environ["STAND_IN_NOTES"]) / f"{os.getpid()}.json"
if "broken" in sys.argv:
    sys.exit("ValueError: the model cannot be served")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.say({"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        note["asked"] += 1
        file.write_text(json.dumps(note))
        if note["asked"] == 5 and "--dies" in arguments:
            self.die()
        ids = [*body["prompt"][-3:], body["stop_token_ids"][0]]
        self.say({"choices": [{"text": f"seed {body.get('seed')}", "finish_reason": "stop", "token_ids": ids}]})

    def die(self) -> None:
        mark = file.with_name("died")
        if mark.exists() and "--once" in arguments:
            return
        mark.touch()
        if arguments["--dies"] == "worker":
            os.kill(os.getppid(), signal.SIGKILL)
            return
        print("Error: out of memory", flush=True)
        os._exit(1)

    def say(self, what: dict) -> None:
        content = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(arguments.get("--port", 0))), Handler).serve_forever()
