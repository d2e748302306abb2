"""Speaks as much of vLLM's server as the sampler asks for: replies are the prompt's last ids, and the end token.

It writes down how it was started. With `broken` among its arguments it dies at once; with `server-dies` or
`worker-dies` it or the process that started it dies at the fifth request (`once`: of all servers, one).
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
note = {
    "arguments": sys.argv[1:],
    "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
    "pid": os.getpid(),
    "asked": 0,
    "seeds": [],
}
file = Path(os.environ["STAND_IN_NOTES"]) / f"{os.getpid()}.json"
lock = threading.Lock()
if "broken" in sys.argv:
    sys.exit("ValueError: the model cannot be served")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.say({"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with lock:
            note["asked"] += 1
            note["seeds"].append(body.get("seed"))
            new = file.parent.with_name(file.name)
            new.write_text(json.dumps(note))
            new.rename(file)  # as a whole, also if it is killed now
            fifth = note["asked"] == 5
        if fifth and {"server-dies", "worker-dies"} & set(sys.argv):
            self.die()
        ids = [*body["prompt"][-3:], body["stop_token_ids"][0]]
        self.say({"choices": [{"text": f"seed {body.get('seed')}", "finish_reason": "stop", "token_ids": ids}]})

    def die(self) -> None:
        mark = file.parent.with_name("died")
        if mark.exists() and "once" in sys.argv:
            return
        mark.touch()
        if "worker-dies" in sys.argv:
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
