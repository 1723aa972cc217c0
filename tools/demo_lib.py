"""What the demo's checks share: how they speak, what has passed, and the tokens that clients show."""

import base64
import hashlib
import hmac
import json
import os
import sys
import time

BOLD, RED, GREEN, DIM, PLAIN = ("\033[1m", "\033[31m", "\033[32m", "\033[2m", "\033[0m") if sys.stdout.isatty() else [""] * 5
counts = {"passed": 0, "failed": 0}


def section(title):
    print(f"\n{BOLD}{title}{PLAIN}")


def verdict(faults):
    """Counts one check, and prints what is wrong with it."""
    for fault in faults:
        print(f"    {RED}WRONG: {fault}{PLAIN}")
    counts["failed" if faults else "passed"] += 1


def token(**claims):
    """A token, signed as the issuer of envoy.yaml would sign it, that holds for eight hours."""
    claims = {"iss": "https://issuer.example.com", "aud": "api", "exp": int(time.time()) + 8 * 3600, **claims}

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    text = b".".join(part(json.dumps(piece, separators=(",", ":")).encode()) for piece in ({"alg": "HS256"}, claims))
    tag = hmac.new(os.environ["TENANCY_JWT_SECRET"].encode(), text, hashlib.sha256).digest()
    return (text + b"." + part(tag)).decode()
