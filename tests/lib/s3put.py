"""
Objects put straight into the bucket under test, past orlop: many of them in a short time.

The least of a client: PutObject with an unsigned payload, on connections that stay open.
"""

import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import os
import urllib.parse

THREADS = 16


def _hmac(key, text):
    return hmac.digest(key, text.encode(), "sha256")


def _signed_headers(host, path):
    """Headers with AWS Signature Version 4 of a PUT."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
    names = ";".join(headers)
    lines = [f"{name}:{value}\n" for name, value in headers.items()]
    request = f"PUT\n{path}\n\n{''.join(lines)}\n{names}\nUNSIGNED-PAYLOAD"
    region = os.environ["AWS_REGION"]
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = _hmac(key, text).hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": authorization}


def _put_some(store, keys, content):
    endpoint = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
    connection = http.client.HTTPConnection(endpoint.netloc, timeout=60)
    for key in keys:
        path = urllib.parse.quote(f"/{store.removeprefix('s3://')}/{key}")
        connection.request("PUT", path, content, _signed_headers(endpoint.netloc, path))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
    connection.close()


def put_all(store, keys, content=b""):
    """content at every key of the store s3://BUCKET/PREFIX."""
    keys = list(keys)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(_put_some, store, keys[first::THREADS], content) for first in range(THREADS)]:
            done.result()
