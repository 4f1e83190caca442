"""What gives out temporary keys in a cloud: STS (with a web identity), the agent of an ECS container, the metadata
service of an EC2 instance (version 2), and IAM Identity Center (SSO: GetRoleCredentials, CreateToken). The keys are real ones of a MinIO, made by its own STS."""

from __future__ import annotations

import json
import urllib.parse
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler

from .base import Fake


class FakeCloud(Fake):
    """life: seconds for which the keys are said to be good. Counts: fetched, requests (method and path)."""

    def __init__(self, minio) -> None:
        super().__init__(_Handler, "cloud")
        self.minio = minio
        self.life = 3600.0
        self.broken = False
        self.fetched = 0
        self.lives: list[float] = []    # of the keys that were fetched
        self.requests: list[str] = []
        self.identity = "web-identity-token"
        self.sso_token = "sso-token-1"
        self.renewals: list[dict] = []  # what CreateToken was asked with
        self.start()

    def keys(self) -> dict[str, str]:
        import boto3

        sts = boto3.client("sts", endpoint_url=self.minio.endpoint, region_name=self.minio.region,
                           aws_access_key_id=self.minio.user, aws_secret_access_key=self.minio.password)
        given = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/quay", RoleSessionName="quaytest")["Credentials"]
        life = self.life
        until = datetime.now(timezone.utc) + timedelta(seconds=life)
        self.lives.append(life)
        self.fetched += 1
        return {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": given["AccessKeyId"],
                "SecretAccessKey": given["SecretAccessKey"], "Token": given["SessionToken"],
                "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ")}


class _Handler(BaseHTTPRequestHandler):
    cloud: FakeCloud
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> bool:
        self.cloud.requests.append(f"{self.command} {self.path}")
        broken = self.cloud.broken      # looked at once: the test mends it as soon as it has the answer
        if broken:
            self.answer(500, "<Error><Code>InternalFailure</Code><Message>try later</Message></Error>")
        return not broken

    def do_PUT(self) -> None:
        if not self.begin():
            return
        good = self.path == "/latest/api/token" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200, "imds-session") if good else self.answer(400)

    def do_GET(self) -> None:
        base = "/latest/meta-data/iam/security-credentials/"
        if not self.begin():
            return
        if self.path.startswith("/latest/") and self.headers["x-aws-ec2-metadata-token"] != "imds-session":
            self.answer(401)
        elif self.path == base:
            self.answer(200, "the-role")
        elif self.path == base + "the-role":
            self.answer(200, json.dumps(self.cloud.keys()))
        elif self.path.startswith("/federation/credentials?"):
            self.role_credentials()
        elif self.path == "/ecs/keys" and self.headers["authorization"] == "ecs-secret":
            self.answer(200, json.dumps(self.cloud.keys()))
        else:
            self.answer(403)

    def role_credentials(self) -> None:
        asked = dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
        if self.headers["x-amz-sso_bearer_token"] != self.cloud.sso_token:
            self.answer(401, json.dumps({"message": "Session token not found or invalid"}))
        elif asked != {"role_name": "the reader", "account_id": "123456789012"}:
            self.answer(403, json.dumps({"message": "No access"}))
        else:
            keys = self.cloud.keys()
            until = datetime.now(timezone.utc) + timedelta(seconds=self.cloud.life)
            self.answer(200, json.dumps({"roleCredentials": {
                "accessKeyId": keys["AccessKeyId"], "secretAccessKey": keys["SecretAccessKey"],
                "sessionToken": keys["Token"], "expiration": int(until.timestamp() * 1000)}}))

    def create_token(self, asked: dict) -> None:
        self.cloud.renewals.append(asked)
        if asked != {"grantType": "refresh_token", "clientId": "the-client", "clientSecret": "client-secret",
                     "refreshToken": f"refresh-{len(self.cloud.renewals)}"}:
            self.answer(400, json.dumps({"error": "invalid_grant", "error_description": "Invalid refresh token"}))
            return
        self.cloud.sso_token = f"sso-token-{len(self.cloud.renewals) + 1}"
        self.answer(200, json.dumps({"accessToken": self.cloud.sso_token, "expiresIn": 3600, "tokenType": "Bearer",
                                     "refreshToken": f"refresh-{len(self.cloud.renewals) + 1}"}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if not self.begin():
            return
        if self.path == "/token":
            self.create_token(json.loads(body))
            return
        form = dict(urllib.parse.parse_qsl(body))
        if form.get("Action") != "AssumeRoleWithWebIdentity" or "authorization" in self.headers:
            self.answer(400, "<Error><Code>InvalidAction</Code></Error>")
        elif form.get("WebIdentityToken") != self.cloud.identity or not form.get("RoleArn"):
            self.answer(400, "<Error><Code>InvalidIdentityToken</Code><Message>no such token</Message></Error>")
        else:
            keys = self.cloud.keys()
            self.answer(200, "<R><Result><Credentials>" + "".join(
                f"<{name}>{keys[name]}</{name}>" for name in ("AccessKeyId", "SecretAccessKey", "Expiration"))
                + f"<SessionToken>{keys['Token']}</SessionToken></Credentials></Result></R>")
