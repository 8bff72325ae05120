#!/usr/bin/env python3
"""Creates one S3 bucket: a single PUT signed with AWS Signature Version 4, standard library only.

make_bucket.py ENDPOINT ACCESS_KEY SECRET_KEY BUCKET      exit 0 when the bucket is there afterwards
"""
import datetime
import hashlib
import hmac
import sys
import urllib.error
import urllib.parse
import urllib.request


def sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def main(endpoint: str, access: str, secret: str, bucket: str) -> int:
    host, empty = urllib.parse.urlparse(endpoint).netloc, hashlib.sha256(b"").hexdigest()
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"PUT\n/{bucket}\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n\n{names}\n{empty}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = sign(key, part)
    signature = sign(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}").hex()
    headers = {
        "x-amz-content-sha256": empty,
        "x-amz-date": now,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}",
    }
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=10).read()
    except urllib.error.HTTPError as error:
        if error.code != 409:  # already there
            print(f"make bucket {bucket}: {error.code} {error.read()[:200]!r}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
