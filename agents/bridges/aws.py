"""Keys of AWS: written down, lent by the machine that the hub runs on, or those of a role; the latter end, and are renewed.

Sources: AWS STS API Reference, `AssumeRole` and `AssumeRoleWithWebIdentity` (2011-06-15); Amazon EC2 User Guide, "Use the Instance Metadata Service"
and "Retrieve security credentials"; Amazon ECS Developer Guide, "Task IAM role"; AWS SDKs and Tools Reference Guide, "Container credential provider"
(all read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from agents.bridges import machine
from agents.bridges.renewed import Ending, Renewed, ending_at
from agents.bridges.sigv4 import Keys, SigV4, signed
from agents.bridges.way import Way
from registry.egress.http import Outgoing
from registry.entries import Headers
from registry.errors import UpstreamInvalid

INSTANCE = "http://169.254.169.254/latest"
INSTANCE_TOKEN_S = "21600"  # noqa: S105  # six hours, the longest that there is

CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"})
"""Whom a container may ask for its role's keys without TLS."""

_FORM = (("content-type", "application/x-www-form-urlencoded"),)


class WebIdentity(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A role that takes a token of somebody else's, as Kubernetes gives each pod of Amazon EKS one."""

    role_arn: str
    token_file: str
    session_name: str = "hubbub"


class Container(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a container of Amazon ECS or EKS gets the keys of its role."""

    url: str
    token_file: str | None = None
    """What is in `authorization`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in CONTAINER_HOSTS):
            raise ValueError("container: url is neither https nor one of the addresses that containers ask")


class Role(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A role that is taken with the keys, in the place of them."""

    arn: str
    external_id: str | None = None
    session_name: str = "hubbub"


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where keys come from, as an entry says it."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    web_identity: WebIdentity | None = None
    container: Container | None = None
    instance: bool = False
    """Of the role of the machine of EC2."""
    role: Role | None = None
    sts_url: str | None = None
    """None: of the region."""

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        said = [
            self.access_key_id is not None,
            self.web_identity is not None,
            self.container is not None,
            self.instance,
        ]
        if sum(said) != 1:
            raise ValueError(
                "keys are access_key_id and secret_access_key, web_identity, container or instance: one of them"
            )
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token belongs to access_key_id and secret_access_key")

    def __repr__(self) -> str:
        return f"Source({self.access_key_id or self.web_identity or self.container or 'instance'})"


class Aws(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="aws"):
    """`auth` of an agent behind AWS's signatures; in AgentCore Runtime each context has a session."""

    region: str
    keys: Source | None = None
    """None: the entry's own headers have a bearer token."""
    service: str = "bedrock-agentcore"


def signer(source: Source, *, region: str, service: str) -> SigV4:
    """What signs requests to a service."""
    return SigV4(_keys(source, region), region=region, service=service)


def _keys(source: Source, region: str) -> Keys | Renewed[Keys]:
    sts = source.sts_url or f"https://sts.{region}.amazonaws.com/"
    found, role = _own(source, sts), source.role
    if role is None:
        return found

    async def taken(way: Way) -> Ending[Keys]:
        keys = found if isinstance(found, Keys) else await found.get(way)
        asked = {"Action": "AssumeRole", "RoleArn": role.arn, "RoleSessionName": role.session_name}
        if role.external_id is not None:
            asked["ExternalId"] = role.external_id
        body = _form(asked)
        outgoing = Outgoing(url=sts, headers=_FORM, body=body)
        return await _of_sts(way, sts, body, signed(keys, (region, "sts"), outgoing, datetime.now(UTC)))

    return Renewed(taken)


def _own(source: Source, sts: str) -> Keys | Renewed[Keys]:
    """Those of no role that is taken with others."""
    if source.web_identity is not None:
        return Renewed(partial(_of_web_identity, source.web_identity, sts))
    if source.container is not None:
        return Renewed(partial(_of_container, source.container))
    if source.instance:
        return Renewed(_of_instance)
    assert source.access_key_id is not None, "it says one of them"
    assert source.secret_access_key is not None, "it says both"
    return Keys(source.access_key_id, source.secret_access_key, source.session_token)


async def _of_web_identity(identity: WebIdentity, sts: str, way: Way) -> Ending[Keys]:
    asked = {
        "Action": "AssumeRoleWithWebIdentity",
        "RoleArn": identity.role_arn,
        "RoleSessionName": identity.session_name,
        "WebIdentityToken": await machine.file(way, identity.token_file),
    }
    return await _of_sts(way, sts, _form(asked), ())


async def _of_container(container: Container, way: Way) -> Ending[Keys]:
    token = await machine.file(way, container.token_file) if container.token_file is not None else None
    headers = (("authorization", token),) if token is not None else ()
    return _lent(way, await machine.text(way, "GET", container.url, headers=headers))


async def _of_instance(way: Way) -> Ending[Keys]:
    """By version 2 of the service, which wants a token first."""
    lasts = (("x-aws-ec2-metadata-token-ttl-seconds", INSTANCE_TOKEN_S),)
    token = (("x-aws-ec2-metadata-token", await machine.text(way, "PUT", f"{INSTANCE}/api/token", headers=lasts)),)
    roles = f"{INSTANCE}/meta-data/iam/security-credentials/"
    role, _, _ = (await machine.text(way, "GET", roles, headers=token)).partition("\n")
    return _lent(way, await machine.text(way, "GET", roles + quote(role, safe=""), headers=token))


def _lent(way: Way, answer: str) -> Ending[Keys]:
    """What a machine or a container answered, in JSON."""
    found = way.read(answer.encode())
    members = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
    return _ending(way, [found.get(name) if isinstance(found, dict) else None for name in members])


async def _of_sts(way: Way, url: str, body: bytes, signature: Headers) -> Ending[Keys]:
    """What the Security Token Service answered, in XML: none of its members can hold what XML would write otherwise."""
    async with way.send("POST", url, body, headers=(*_FORM, *signature)) as incoming:
        answer = (await incoming.read()).decode(errors="replace")
    members = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    found = [re.search(rf"<{name}>\s*([^<&\s]+)\s*</{name}>", answer) for name in members]
    return _ending(way, [one[1] if one is not None else None for one in found])


def _ending(way: Way, members: Sequence[Any]) -> Ending[Keys]:
    """Keys, of their id, secret, token and end."""
    try:
        key_id, secret, token, end = (msgspec.convert(one, str) for one in members)
        return Ending(Keys(key_id, secret, token), ending_at(end))
    except (msgspec.ValidationError, ValueError):
        raise UpstreamInvalid(way.name, "AWS answered without keys") from None


def _form(asked: dict[str, str]) -> bytes:
    return urlencode({"Version": "2011-06-15", **asked}).encode()
