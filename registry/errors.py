"""The error tree, sorted by whose fault it is. Knows no wire format: `hub/errors.py` maps each class to each door.

    HubError
    ├── CallerError      the request is wrong
    ├── LimitError       the hub stopped it
    └── UpstreamError    the other side failed

An error holds fields and writes its own text, for the person who can act. The text may reach a caller, so it never
holds an address, a credential or another exception's words; a bug is not wrapped and reaches the boundary as it is.
"""

from __future__ import annotations

from collections.abc import Sequence


class HubError(Exception):
    """Any outcome that a door has an answer for."""

    noted = False
    """It is in the audit log already."""

    tools_ran = False
    """Tools were called for the request before it failed: sending it again would call them again."""

    @property
    def text(self) -> str:
        """One sentence for the caller."""
        return str(self)

    def add(self, more: str) -> None:
        """Say more in its text."""
        self.args = (f"{self.text} {more}",)


INTERNAL = HubError("The hub failed at this request; its log has the reason under the request id.")
"""What a caller is told of a bug."""


class CallerError(HubError):
    """The request is wrong; sending it again unchanged will not help."""


class ParseFailed(CallerError):
    """The body is not JSON, or is nested too deeply to be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The body cannot be read as JSON: {reason}.")


class InvalidRequest(CallerError):
    """The body is JSON but not a valid request of this door; `member` names what is wrong, if one member is."""

    def __init__(self, reason: str, *, member: str | None = None) -> None:
        super().__init__(reason)
        self.member = member


class UnsupportedParameters(InvalidRequest):
    """Where the model runs these members of the request are not known, and its entry does not let them be left out."""

    def __init__(self, model: str, provider: str, members: Sequence[str]) -> None:
        names = ", ".join(members)
        super().__init__(
            f"{model} runs at provider {provider}, which lacks {names}: leave {'it' if len(members) == 1 else 'them'} out, "
            "or have the operator set drop_params on the model.",
            member=members[0],
        )


class InvalidParams(InvalidRequest):
    """The method is known and its parameters are wrong."""


class HeaderMismatch(InvalidRequest):
    """A header says something else than the body (MCP 2026-07-28, -32020): a proxy would route on the wrong one."""

    def __init__(self, header: str) -> None:
        super().__init__(f"The {header} header must stand once and say what the body says.")
        self.header = header


class MethodNotFound(CallerError):
    """The door does not know this method."""

    def __init__(self, method: str) -> None:
        super().__init__(f"Method {method[:80]!r} is not known here.")
        self.method = method


class Unauthenticated(CallerError):
    """No credential, or one that opens nothing."""

    def __init__(self) -> None:
        super().__init__("A valid API key is needed: send 'Authorization: Bearer sk-…'.")


class NotFound(CallerError):
    """There is no such thing, or it is not the caller's: deliberately one answer (architecture.md 3.5)."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"No {kind} {name[:200]!r} here.")
        self.kind = kind
        self.name = name


class Conflict(CallerError):
    """The thing exists already, or is owned by the file."""


class ApprovalRefused(CallerError):
    """Somebody answered for an approval who may not, or used one for something else than it was given for."""


class PolicyRefused(CallerError):
    """A rule of the hub's policy is against this call of a thing that the caller may call otherwise."""

    def __init__(self, rule: str, reason: str | None) -> None:
        super().__init__(f"The hub's rule {rule!r} refuses this call{f': {reason}' if reason else ''}.")
        self.rule = rule


class GuardRefused(PolicyRefused):
    """A guard found something in what was sent or answered; `why` says what, and holds nothing of it."""

    def __init__(self, guard: str, side: str, why: str) -> None:
        CallerError.__init__(self, f"The hub's guard {guard!r} keeps back the {side} of this call: {why}.")
        self.rule = guard

    @staticmethod
    def guard_in(text: str) -> str:
        """The guard that the text of such an error names."""
        return text.split("'")[2]


class ApprovalRequired(CallerError):
    """A rule of the hub's policy has this call approved before it is made, and nobody has yet."""

    def __init__(self, rule: str, reason: str | None, approval: str | None = None) -> None:
        text = f"The hub's rule {rule!r} has this call approved first{f': {reason}' if reason else ''}"
        if approval is not None:
            text += f"; it waits in the hub's inbox as {approval}: make the same call again when it is approved"
        super().__init__(f"{text}.")
        self.rule = rule
        self.reason = reason
        self.approval = approval


class NotSupported(CallerError):
    """A valid operation that this hub or this agent does not offer."""


class VersionNotSupported(NotSupported):
    """The agent does not speak the caller's protocol version (A2A 1.0 §3.6.2, -32009)."""

    def __init__(self, requested: str, spoken: tuple[str, ...]) -> None:
        super().__init__(f"Version {requested} is not spoken here; use {' or '.join(spoken) or 'another agent'}.")
        self.requested = requested
        self.spoken = spoken


class HostRefused(CallerError):
    """The Host header names no host of this hub."""

    def __init__(self) -> None:
        super().__init__("This host name is not served here; the operator sets it with hub.public_url.")


class CredentialRepeated(CallerError):
    """A header that says who calls stands twice: who reads the first and who reads the last would see two callers."""

    def __init__(self, header: str) -> None:
        super().__init__(f"The header {header} is there more than once; send one.")


class OriginRefused(CallerError):
    """A browser's Origin that the operator did not allow."""

    def __init__(self) -> None:
        super().__init__("This Origin may not call the hub; the operator allows it with hub.allowed_origins.")


class CrossSiteRefused(CallerError):
    """A request that a browser's session stands for, and that may be another site's doing."""

    def __init__(self) -> None:
        super().__init__("With the session of a browser, requests come from the hub's own pages and bring their token.")


class TooLarge(CallerError):
    """The body is larger than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


class HeadersTooLarge(CallerError):
    """The request's headers are larger than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The headers are larger than {limit_bytes} bytes.")


class MediaTypeRefused(CallerError):
    """The body is not JSON by its own Content-Type."""

    def __init__(self) -> None:
        super().__init__("Send the body as application/json.")


class ContentCodingRefused(CallerError):
    """The body is compressed (RFC 9110 §8.4.1), which the hub takes of nobody."""

    def __init__(self) -> None:
        super().__init__("Send the body without a Content-Encoding.")


class HttpMethodRefused(CallerError):
    """The path exists but not for this HTTP method."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"This path answers {allow} only.")
        self.allow = allow


class BodyStalled(CallerError):
    """The caller stopped sending its body."""

    def __init__(self) -> None:
        super().__init__("The body did not arrive in time.")


class LimitError(HubError):
    """The hub stopped the call; later, or with less, it may work."""


class RateLimited(LimitError):
    """The key's requests for this minute are used up."""

    retry_after_s: float | None

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"The key's requests per minute are used up; try again in {retry_after_s:.0f} s.")
        self.retry_after_s = retry_after_s


class DeploymentsBusy(RateLimited):
    """All deployments of a model have as many requests as the operator or their providers let them have."""

    def __init__(self, entry: str, retry_after_s: float) -> None:
        LimitError.__init__(self, f"{entry}: it has all the requests it may have; try again in {retry_after_s:.0f} s.")
        self.retry_after_s = retry_after_s


class LimitReached(RateLimited):
    """A limit of the caller or of what is called has nothing left until its span ends."""

    retry_after_s: float | None
    """None: to wait does not help, as what it bounds has no next span, or the call never fits."""

    def __init__(self, text: str, retry_after_s: float | None) -> None:
        LimitError.__init__(self, text)
        self.retry_after_s = retry_after_s


class OverBudget(LimitReached):
    """Likewise a budget."""


class TaskOver(LimitError):
    """The time of the task that a call is part of is over."""

    def __init__(self) -> None:
        super().__init__(
            "The task that this call is part of has used up its max_seconds; what is begun anew has its own."
        )


class PriceUnknown(LimitError):
    """Under a budget nothing is called whose price nobody knows."""

    def __init__(self, entry: str, whose: str) -> None:
        super().__init__(
            f"{entry} has no price, and {whose} budget counts every call: the operator sets its price, 0 if it costs nothing."
        )


class TooManyRounds(LimitError):
    """The tool loop reached its bound without an answer."""

    def __init__(self, rounds: int) -> None:
        super().__init__(f"The model still asked for tools after {rounds} rounds.")
        self.rounds = rounds


class TooExpensive(LimitError):
    """The model still asked for tools when the request had cost what it, or its key, may."""

    def __init__(self, spent_usd: float, limit_usd: float) -> None:
        super().__init__(f"The request has cost {spent_usd:.6g} USD, of at most {limit_usd:.6g}; max_usd says so.")


class TooManyTokens(LimitError):
    """The model still asked for tools when the request had used as many tokens as it, or its key, may."""

    def __init__(self, used: int, limit: int) -> None:
        super().__init__(f"The request has used {used} tokens, of at most {limit}; max_total_tokens says so.")


class TooManyHops(LimitError):
    """Agents call one another through the hub, and none of them ends it."""

    def __init__(self, hops: int) -> None:
        super().__init__(f"This call came through the hub {hops} times: its agents call one another in a circle.")
        self.hops = hops


class Overloaded(LimitError):
    """The hub cannot decide safely at the moment, and so does not (fails closed)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class UpstreamError(HubError):
    """The entry behind the hub failed. `entry` is its name in the hub, never its address."""

    is_unsent = False
    """The request that failed had not been sent: it may be, to somebody else."""

    def __init__(self, entry: str, reason: str) -> None:
        super().__init__(f"{entry}: {reason}")
        self.entry = entry
        self.reason = reason


class UpstreamUnavailable(UpstreamError):
    """It cannot be reached, or it is not running."""


class UpstreamTimeout(UpstreamError):
    """It took longer than the deadline."""


class UpstreamInvalid(UpstreamError):
    """It answered something that is not its protocol."""


class UpstreamRefused(UpstreamError):
    """It refused the hub's own request or credential; `status` is the HTTP status it gave."""

    def __init__(self, entry: str, status: int) -> None:
        super().__init__(entry, f"the upstream refused the call (HTTP {status})")
        self.status = status


class ConsentNeeded(UpstreamError):
    """It serves each user by their own account there, and this one has not connected theirs.

    `link` leads to the page of the hub where they do; it is good for this principal alone, once, for a few minutes.
    """

    def __init__(self, entry: str, server: str, link: str) -> None:
        super().__init__(entry, f"your account at {server} is not connected; open {link} to connect it, then try again")
        self.server = server
        self.link = link


class UpstreamLimited(UpstreamError):
    """It has had enough requests for now; `retry_after` is its own Retry-After header, None when it gave none."""

    def __init__(self, entry: str, retry_after: str | None, said: str | None = None) -> None:
        reason = "the upstream's rate limit is reached (HTTP 429)"
        super().__init__(entry, reason if said is None else f"{reason}: {said}")
        self.retry_after = retry_after


class UpstreamOverloaded(UpstreamUnavailable):
    """It has too much to do, whoever asks; `retry_after` as of `UpstreamLimited`."""

    def __init__(self, entry: str, status: int, retry_after: str | None) -> None:
        super().__init__(entry, f"the upstream is overloaded (HTTP {status})")
        self.retry_after = retry_after


class UpstreamRejected(UpstreamError):
    """It understood the caller's request and found fault with it.

    `detail` is its own error object, cleaned of addresses and credentials; `status` the HTTP status it gave.
    """

    def __init__(self, entry: str, status: int, detail: dict[str, object]) -> None:
        super().__init__(entry, str(detail.get("message") or "the upstream rejected the request"))
        self.status = status
        self.detail = detail

    def add(self, more: str) -> None:
        """Likewise in what is told of its own error."""
        super().add(more)
        self.detail = {**self.detail, "message": self.text}


class ContextTooLong(UpstreamRejected):
    """The request is longer than the model's context window: a model with a larger one may take it.

    Whatever the provider's status and code were, they are 400 and OpenAI's `context_length_exceeded`.
    """

    def __init__(self, entry: str, detail: dict[str, object]) -> None:
        super().__init__(
            entry, 400, {**detail, "type": "invalid_request_error", "code": "context_length_exceeded", "param": None}
        )


class ContentFiltered(UpstreamRejected):
    """The provider does not answer to such content. Whatever its status and code were, they are 400 and `content_filter`."""

    def __init__(self, entry: str, detail: dict[str, object]) -> None:
        super().__init__(entry, 400, {**detail, "type": "invalid_request_error", "code": "content_filter"})


class AgentFault(UpstreamError):
    """An A2A agent answered with an error of the protocol, which is its caller's to read in the caller's own form.

    `code` is its JSON-RPC code (A2A 1.0 §5.4), `text` its message and `details` its typed objects, cleaned of addresses and
    credentials.
    """

    def __init__(self, entry: str, code: int, message: str, details: list[dict[str, object]] | None = None) -> None:
        super().__init__(entry, message)
        self.message = message
        self.code = code
        self.details = details or []

    @property
    def text(self) -> str:
        """The agent's own sentence."""
        return self.message


class TaskFailed(UpstreamError):
    """The task of an agent that was asked as a model ended without success; `state` says how, as A2A 0.3 spells it."""

    tools_ran = True

    def __init__(self, entry: str, state: str, said: str) -> None:
        super().__init__(entry, f"its task is {state}" + (f": {said}" if said else ""))
        self.state = state


class CardRefused(UpstreamInvalid):
    """An agent's card is not what the operator pinned or approved, so the agent is not called by it."""

    is_unsent = True


def unsent(error: UpstreamError) -> UpstreamError:
    """Say of an error that the request had not been sent."""
    error.is_unsent = True
    return error


class AddressRefused(UpstreamError):
    """A URL that a user or an upstream supplied leads to a network that the operator did not open."""

    def __init__(self, entry: str) -> None:
        super().__init__(entry, "its address is not public; the operator opens networks with hub.egress_allow")
