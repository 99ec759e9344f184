#!/usr/bin/env bash
# An identity provider publishes its keys, among them one on a Brainpool curve.
#
# One would guess: a key that the library can't use is passed over, as RFC 7517 section 5 asks, or a JoseError says so.
# What happens: `KeySet.import_key_set` passes over a key of an unknown type (kty AKP, post-quantum), but for an unknown
#   curve (crv BP-256) it raises a bare KeyError, which is no JoseError and no ValueError, and all the other keys are lost
#   with it. PyJWT passes over that key. Authlib's own module, which says "use joserfc instead", takes it.
# Consequence: one key of a kind that nobody here uses ends every sign-in. Import entry by entry, as Keywright does, and
#   catch KeyError too.
#
# joserfc 1.8.0, PyJWT 2.15.1, Authlib 1.9.10. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check joserfc==1.8.0 pyjwt==2.15.1 authlib==1.9.10 cryptography==50.0.2

cat >"$folder/probe.py" <<'PYTHON'
import base64
import sys

import jwt
from authlib.jose import JsonWebKey
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import KeySet


def key(curve, name):
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(one.to_bytes(32, "big")).rstrip(b"=").decode() for one in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": name, "kid": name, "use": "sig", "x": x, "y": y}


usual = key(ec.SECP256R1(), "P-256")
brainpool = key(ec.BrainpoolP256R1(), "BP-256")
post_quantum = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AAAA"}


def count(read, *keys):
    try:
        return len(read({"keys": list(keys)}).keys)
    except Exception as error:
        return f"{type(error).__mro__[0].__name__}: {error}"


seen = {
    "joserfc, with a post-quantum key": count(KeySet.import_key_set, usual, post_quantum),
    "joserfc, with a Brainpool key": count(KeySet.import_key_set, usual, brainpool),
    "PyJWT, with a Brainpool key": count(jwt.PyJWKSet.from_dict, usual, brainpool),
    "Authlib, with a Brainpool key": count(JsonWebKey.import_key_set, usual, brainpool),
}
for what, result in seen.items():
    print(f"{what}: {result}")
if list(seen.values()) != [1, "KeyError: 'BP-256'", 1, 2]:
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/probe.py"
echo "as described"
