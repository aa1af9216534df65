"""Runs of the workflow definition in skipped time, against a scripted HTTP server on loopback or a function."""

import contextlib
import functools
import json
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

from lro_aio.testing.workflows.engine import run
from lro_aio.testing.workflows.fake import DEFINITION
from lro_aio.testing.workflows.reader import load, read
from lro_aio.testing.workflows.requests import Caller

NOW = 1_700_000_000.0
HOUR, DAY = 3600, 86400


definition = functools.cache(functools.partial(load, DEFINITION))


def plain():
    """The definition as YAML has it."""
    return yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))


def steps_of(value):
    """(name, step) of every step of a definition, in its order."""
    if isinstance(value, list):
        for item in value:
            yield from steps_of(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "steps":
                for step in item:
                    yield from step.items()
            yield from steps_of(item)


def execute(text, argument=None, caller=None):
    """Run a definition given as YAML; returns its result and its ``Run``. Without a caller, calls echo their bodies."""
    host = Run(caller or (lambda url, body: body))
    return run(read(yaml.safe_load(text)), argument, host), host


class Script:
    """An HTTP server whose answers are queued by path; the last one of a path is given again and again.

    An answer is (status, body); a body that is a dict is JSON. A function is called with the request's JSON.
    """

    def __init__(self):
        self.calls = []  # (path, body, headers)
        self._answers = defaultdict(deque)

    def __enter__(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                owner._answer(self)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # twenty parallel calls arrive at once
            daemon_threads = False  # the close waits for them, so that no socket is left to the garbage collector

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path, *answers):
        self._answers[path].extend(answers)

    def bodies(self, path):
        return [body for called, body, _ in self.calls if called == path]

    def _answer(self, request):
        raw = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        body = json.loads(raw)
        self.calls.append((request.path, body, dict(request.headers)))
        queue = self._answers[request.path]
        answer = queue.popleft() if len(queue) > 1 else queue[0]
        status, content = answer(body) if callable(answer) else answer
        if status == "drop":
            request.close_connection = True
            return
        sent = json.dumps(content).encode() if isinstance(content, dict) else str(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json" if isinstance(content, dict) else "text/html")
        request.send_header("Content-Length", str(len(sent)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):  # the caller has seen enough of an answer that is too large
            request.wfile.write(sent)


class Run:
    """One execution whose sleeps take no time (``engine.Host``).

    Args:
        caller: Makes the HTTP calls: a ``Caller``, or a function from URL and body to the answer's body.
    """

    def __init__(self, caller):
        self.time = NOW
        self.slept = []
        self.steps = 0
        self.peak = 0
        self.held = 0  # by the variables, at last
        self.logged = []
        self.in_parallel = 0
        self.slept_in_parallel = False
        self.sent = []  # (time, url, args)
        self._caller = caller
        self._lock = threading.Lock()

    def execute(self, argument):
        """The result; raises as the definition does."""
        return run(definition(), argument, self)

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept_in_parallel |= self.in_parallel > 0
        self.slept.append(seconds)
        self.time += seconds

    def request(self, method, args):
        with self._lock:
            self.sent.append((self.time, args["url"], args))
        if isinstance(self._caller, Caller):
            return self._caller.call("executions/test", self.time, method, args, lambda connection: None)
        return {"code": 200, "headers": {}, "body": self._caller(args["url"], args.get("body"))}

    def log(self, entry):
        self.logged.append(entry)

    def step(self, name):
        with self._lock:
            self.steps += 1
            return self.steps

    def memory(self, used):
        self.peak, self.held = max(self.peak, used), used

    def branches(self, count):
        self.in_parallel += count

        def ended():
            with self._lock:
                self.in_parallel -= 1

        return ended
