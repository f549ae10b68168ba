"""A receiver of usageaudit's webhooks: verifies who sent them, and drops what it has seen.

Standard library alone. WEBHOOK_SECRETS has the secrets that are good, separated by spaces: one, and two while a key is
changed. Run it behind a server that terminates TLS: python webhook_receiver.py PORT received.sqlite
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds between the sender's clock and ours
MAX_BODY = 1024 * 1024
KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["WEBHOOK_SECRETS"].split()]
if not KEYS or min(map(len, KEYS)) < 24:
    sys.exit("WEBHOOK_SECRETS needs keys of 24 bytes or more: anybody could sign by an empty one")
DATABASE = sys.argv[2]
log = logging.getLogger("webhooks")


def verified(message_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Return whether one of our keys has signed this id, time and body, and not long ago."""
    if not message_id or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    content = b"%s.%s.%s" % (message_id.encode(), timestamp.encode(), body)
    ours = [b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)) for key in KEYS]
    theirs = [signature.encode() for signature in signatures.split(" ")]
    return any(hmac.compare_digest(one, other) for one in ours for other in theirs)


def take(message_id: str, body: bytes) -> bool:
    """Keep a webhook, and return whether it is new; id and work are written together, or neither is."""
    database = sqlite3.connect(DATABASE, timeout=10)
    try:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY, at REAL, body TEXT)")
            row = (message_id, time.time(), body.decode())
            return database.execute("INSERT OR IGNORE INTO received VALUES (?, ?, ?)", row).rowcount == 1
    finally:
        database.close()


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what it took now or earlier, 401 to what nobody we know has signed."""

    timeout = 10

    def do_POST(self) -> None:
        """Take one webhook."""
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= MAX_BODY):
            return self.answer(413)
        body = self.rfile.read(int(length))
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        message_id, timestamp, signatures = (self.headers.get(name, "") for name in names)
        if not verified(message_id, timestamp, signatures, body):
            return self.answer(401)
        if take(message_id, body):
            alert = json.loads(body)
            log.info("%s %s %r", alert["type"], alert["data"]["severity"], alert["data"]["message"])
        return self.answer(204)

    def answer(self, status: int) -> None:
        """Answer with a status and nothing else."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no line for each request."""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver) as server:
        log.info("listening at %s", server.server_port)
        server.serve_forever()
