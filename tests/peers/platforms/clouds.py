"""A fake of what clouds give credentials by to who runs on them, or comes with somebody else's token.

Written from, all read 2026-11:

* AWS STS API Reference, `AssumeRole`, `AssumeRoleWithWebIdentity`: a form with `Version=2011-06-15`, the first signed (SigV4 of `sts`), the second not; `Credentials` in XML with
  `AccessKeyId`, `SecretAccessKey`, `SessionToken`, `Expiration`.
* Amazon EC2 User Guide, "Use IMDSv2": `PUT /latest/api/token` with `X-aws-ec2-metadata-token-ttl-seconds`, then `X-aws-ec2-metadata-token`; "Retrieve security credentials":
  `/latest/meta-data/iam/security-credentials/ROLE`, with `Code`, `AccessKeyId`, `SecretAccessKey`, `Token`, `Expiration`.
* Amazon ECS Developer Guide, "Task IAM role"; AWS SDKs and Tools Reference Guide, "Container credential provider": a GET with `Authorization`, the same members and `RoleArn`.
* AIP-4117: a form by RFC 8693 to `token_url`, `access_token` and `expires_in`; then `service_account_impersonation_url`, IAM Credentials API, `generateAccessToken`: `scope` and
  `lifetime`, `accessToken` and `expireTime`.
* Microsoft identity platform, "client credentials flow", third case: `client_assertion_type`, `client_assertion`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.conftest import served
from tests.peers.model_service import Received, read
from tests.peers.platforms.bedrock_agents import KEYS

ROLE = "arn:aws:iam::123456789012:role/hub"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Refused(Exception):
    """The cloud gives nothing."""


@dataclass
class Cloud:
    """One cloud, which knows the workload by what is in `token_file`."""

    token_file: Path
    url: str = ""
    good: set[str] = field(default_factory=set)
    """Tokens and sessions that agents behind it take."""
    sessions: set[str] = field(default_factory=lambda: {KEYS["session_token"]})
    """With which a role may be taken."""
    issued: int = 0
    lasts_s: int = 3600
    asked: list[tuple[str, Received]] = field(default_factory=list)
    """All requests, with their methods."""
    refuses: bool = False

    def end_all(self) -> None:
        """Have agents take nothing that was given until now."""
        self.good.clear()
        self.good.add("none yet")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        self.asked.append((scope["method"], request))
        try:
            kind, answer = self._answer(f"{scope['method']} {request.path}", request)
            status = 200
        except Refused:
            status, kind, answer = 403, "text/xml", "<Error><Code>AccessDenied</Code></Error>"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})
        await send({"type": "http.response.body", "body": answer.encode()})

    def _answer(self, asked: str, request: Received) -> tuple[str, str]:  # noqa: C901 - a request after the other
        form = dict(parse_qsl(request.raw.decode()))
        headers = request.headers
        if self.refuses:
            raise Refused
        match asked:
            case "POST /sts":
                return "text/xml", self._of_role(form, headers)
            case "PUT /latest/api/token":
                assert 1 <= int(headers["x-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
                return "text/plain", "imds-token"
            case "GET /latest/meta-data/iam/security-credentials/":
                assert headers["x-aws-ec2-metadata-token"] == "imds-token"
                return "text/plain", "hub-role"
            case "GET /latest/meta-data/iam/security-credentials/hub-role":
                assert headers["x-aws-ec2-metadata-token"] == "imds-token"
                return "text/plain", json.dumps({"Code": "Success", "Type": "AWS-HMAC", **self._lent()})
            case "GET /container":
                self._check(headers.get("authorization"))
                return "application/json", json.dumps({"RoleArn": ROLE, **self._lent()})
            case "GET /subject":
                assert headers["metadata"] == "True"
                return "application/json", json.dumps({"access_token": self._token()})
            case "POST /google/token":
                self._check(form["subject_token"])
                assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
                assert form["requested_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
                assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
                assert form["audience"].startswith("//iam.googleapis.com/projects/")
                return "application/json", json.dumps({"token_type": "Bearer", **self._bearer()})
            case "POST /google/hub:generateAccessToken":
                assert headers["authorization"].removeprefix("Bearer ") in self.good
                assert (request.body["scope"], request.body["lifetime"]) == ([SCOPE], "3600s")
                self.issued += 1
                self.good.add(token := f"impersonated-{self.issued}")
                return "application/json", json.dumps({"accessToken": token, "expireTime": self._end()})
            case "POST /tenant-1/oauth2/v2.0/token":
                self._check(form["client_assertion"])
                assert form["client_assertion_type"] == JWT_BEARER
                assert (form["grant_type"], form["client_id"]) == ("client_credentials", "hub")
                assert "client_secret" not in form
                return "application/json", json.dumps({"token_type": "Bearer", **self._bearer()})
        raise Refused

    def _of_role(self, form: dict[str, str], headers: dict[str, str]) -> str:
        assert form["Version"] == "2011-06-15"
        assert form["RoleArn"] == ROLE
        assert form["RoleSessionName"] == "hubbub"
        action = form["Action"]
        if action == "AssumeRole":
            assert form["ExternalId"] == "e-1"
            assert "/eu-west-1/sts/aws4_request, SignedHeaders=" in headers["authorization"]
            if headers["x-amz-security-token"] not in self.sessions:
                raise Refused
        else:
            assert "authorization" not in headers
            self._check(form["WebIdentityToken"])
        found = self._lent()
        found["SessionToken"] = found.pop("Token")
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in found.items())
        return (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"{inner}</Credentials></{action}Result></{action}Response>"
        )

    def _check(self, token: str | None) -> None:
        if token != self._token():
            raise Refused

    def _token(self) -> str:
        return self.token_file.read_text().strip()

    def _end(self) -> str:
        return (datetime.now(UTC) + timedelta(seconds=self.lasts_s)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _lent(self) -> dict[str, str]:
        self.issued += 1
        token = f"session/{self.issued}+=="
        self.good.add(token)
        self.sessions.add(token)
        return {
            "AccessKeyId": f"ASIAEXAMPLE{self.issued}",
            "SecretAccessKey": f"secret/{self.issued}",
            "Token": token,
            "Expiration": self._end(),
        }

    def _bearer(self) -> dict[str, Any]:
        self.issued += 1
        self.good.add(token := f"token-{self.issued}")
        return {"access_token": token, "expires_in": self.lasts_s}


@asynccontextmanager
async def open_cloud(directory: Path) -> AsyncIterator[Cloud]:
    cloud = Cloud(directory / "workload-token")
    cloud.token_file.write_text("workload-1\n")
    async with served(cloud) as cloud.url:
        yield cloud
