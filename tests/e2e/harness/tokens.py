"""JSON Web Tokens by hand (HS256 and `none`), so that wrong ones can be made too."""

import base64
import hashlib
import hmac
import json
import time

SECRET = "an end-to-end secret, long enough for HS256 and known to everybody"

AUDIENCE = "heddle-e2e"


def _part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(user, secret=SECRET, alg="HS256", life_s=3600, **claims):
    """A token for `user`. `claims` adds or replaces; a claim that is None is left out."""
    now = int(time.time())
    body = {"sub": user, "iat": now, "exp": now + life_s, "aud": AUDIENCE} | claims
    body = {name: value for name, value in body.items() if value is not None}
    head = _part({"alg": alg, "typ": "JWT"})
    signed = f"{head}.{_part(body)}"
    if alg == "none":
        return f"{signed}."
    return f"{signed}.{_part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"
