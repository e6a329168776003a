"""Our signatures and those of the official libraries of Standard Webhooks, in Python and (where npm is)
in JavaScript: each verifies what the other signed."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone

import standardwebhooks

import zapbus

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODIES = ['{"id":"evt_1"}', "", '{"text":"ação 🎉"}', "x" * 100_000]

now = int(time.time())
ours = zapbus.WebhookVerifier(SECRET)
official = standardwebhooks.Webhook(SECRET)
for body in BODIES[:1] + BODIES[2:3]:
    headers = ours.sign("evt_1", now, body)
    assert official.verify(body, headers) == json.loads(body)
for body in BODIES:
    signed = official.sign("evt_1", datetime.fromtimestamp(now, tz=timezone.utc), body)
    headers = {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(now), "Webhook-Signature": signed}
    assert ours.verify(body.encode(), headers) == zapbus.Signed("evt_1", now)
    assert ours.sign("evt_1", now, body)["webhook-signature"] == signed

event = ours.unwrap(b'{"id":"evt_1","type":"x","new":[1]}', ours.sign("evt_1", now, '{"id":"evt_1","type":"x","new":[1]}'))
assert (event.id, event.type, event.document["new"]) == ("evt_1", "x", [1])

both = zapbus.WebhookVerifier([OTHER, SECRET], tolerance=timedelta(minutes=1))
both.verify("{}", ours.sign("evt_1", now, "{}"), now=now + 60)
for verifier, headers, at, code in [
    (zapbus.WebhookVerifier(OTHER), ours.sign("e", now, "{}"), now, "wrong_signature"),
    (both, ours.sign("e", now, "{}"), now + 61, "too_old"),
    (both, ours.sign("e", now, "{}"), now - 61, "too_new"),
    (both, {}, now, "missing_header"),
    (both, {**ours.sign("e", now, "{}"), "webhook-timestamp": "soon"}, now, "unreadable_header"),
]:
    try:
        verifier.verify("{}", headers, now=at)
        raise AssertionError(code)
    except zapbus.WebhookVerificationError as error:
        assert error.code == code, (error.code, code)
try:
    zapbus.WebhookVerifier("secret")
    raise AssertionError("that is no secret")
except zapbus.UsageError as error:
    assert "whsec_" in str(error)

PROGRAM = """
const { Webhook } = require("standardwebhooks")
const [secret, id, at, signature, body] = JSON.parse(process.argv[1])
const webhook = new Webhook(secret)
const headers = { "webhook-id": id, "webhook-timestamp": String(at), "webhook-signature": signature }
webhook.verify(body, headers)
console.log(webhook.sign(id, new Date(at * 1000), body))
"""
if shutil.which("npm"):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "package.json").write_text("{}")
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        subprocess.run([*npm, "standardwebhooks@1.1.1"], cwd=folder, check=True, timeout=150)
        for body in ['{"id":"evt_1"}', '{"text":"ação 🎉"}']:
            signature = ours.sign("evt_1", now, body)["webhook-signature"]
            given = json.dumps([SECRET, "evt_1", now, signature, body])
            ran = subprocess.run(
                ["node", "-e", PROGRAM, given], cwd=folder, check=True, capture_output=True, text=True
            )
            assert ran.stdout.strip() == signature, (ran.stdout, signature)
else:
    print("without npm: only the library in Python was asked")
