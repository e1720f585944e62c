"""Reads what was sent to a service of AWS, and what it answered, as botocore does; runs in the environment of agentcore.

Standard input: `{"service", "signing_name", "operation", "keys": [id, secret, token], "requests": [{"method", "url", "headers", "body"}], "events": base64}`, where a
request's `params` beside those of its body stand in `named`. Output: `{"faults": [...], "events": [...]}`.
"""

import base64
import json
import sys
from datetime import datetime
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import EventStreamJSONParser
from botocore.validate import ParamValidator


def faults_of(request: dict[str, Any], asked: dict[str, Any], operation: Any) -> list[str]:
    """What botocore would have done otherwise."""
    headers, body = request["headers"], base64.b64decode(request["body"])
    _, _, found = headers["authorization"].partition("SignedHeaders=")
    names, _, signature = found.partition(", Signature=")
    signed = {name: headers[name] for name in names.split(";")}
    again = AWSRequest(request["method"], request["url"], signed, body)
    again.context["timestamp"] = headers["x-amz-date"]
    datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    signer = SigV4Auth(Credentials(*asked["keys"]), asked["signing_name"], "eu-west-1")
    faults = []
    if signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again) != signature:
        faults.append("the signature is wrong")
    if operation is not None:
        params = {**request["named"], **json.loads(body)}
        faults += [str(one) for one in ParamValidator().validate(params, operation.input_shape)._errors]
    return faults


def lost(said: Any, parsed: Any) -> list[str]:
    """Members that botocore's model of the service does not have."""
    if isinstance(said, dict) and isinstance(parsed, dict):
        absent = [f"{name} is unknown" for name in said if name not in parsed]
        return absent + [one for name, value in said.items() for one in lost(value, parsed.get(name))]
    if isinstance(said, list) and isinstance(parsed, list):
        return [one for pair in zip(said, parsed, strict=True) for one in lost(*pair)]
    return []


def plain(value: Any) -> Any:
    """Bytes as text, times as ISO 8601."""
    return value.decode("latin-1") if isinstance(value, bytes) else value.isoformat()


def main() -> None:
    """See above."""
    asked = json.load(sys.stdin)
    operation = None
    if asked.get("operation"):
        model = ServiceModel(Loader().load_service_model(asked["service"], "service-2"), asked["service"])
        operation = model.operation_model(asked["operation"])
    faults = [fault for one in asked["requests"] for fault in faults_of(one, asked, operation)]
    events = []
    buffer = EventStreamBuffer()
    buffer.add_data(base64.b64decode(asked.get("events", "")))
    for event in buffer:
        said = event.to_response_dict()
        shape = operation.output_shape.members[operation.output_shape.event_stream_name]
        parsed = EventStreamJSONParser().parse(said, shape)
        if (kind := said["headers"].get(":event-type")) is not None:
            faults += lost(json.loads(said["body"]), parsed[kind])
        events.append(parsed)
    json.dump({"faults": faults, "events": events}, sys.stdout, default=plain)


main()
