"""The pages for people: definitions, how far the store is, and a user's sequence explained.

Made by the server from templates that escape everything; nothing is loaded from elsewhere, and
there is no script.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sequence_platform.api.access import COOKIE
from sequence_platform.api.body import read_body
from sequence_platform.api.described import describe_briefly, describe_fully
from sequence_platform.api.keys import MAX_KEY, ApiKey
from sequence_platform.api.problems import Refused, refusal_of
from sequence_platform.api.service import Service
from sequence_platform.api.timeline import describe_account, told
from sequence_platform.errors import SequencePlatformError
from sequence_platform.plan.explain import explain
from sequence_platform.plan.plan import SequencePlan
from sequence_platform.ports.online import Freshness
from sequence_platform.runtimes.serving import entity_of

UNAUTHORIZED = 401
MAX_FORM = 10_000
POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

Values = dict[str, Any]
Page = Callable[[Request, ApiKey], tuple[str, Values]]
"""Returns a template and what it shows."""


class Pages:
    """The pages of a worker."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("sequence_platform.api"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )
        self._style = files("sequence_platform.api").joinpath("static/style.css").read_bytes()

    def routes(self) -> list[BaseRoute]:
        """Return their routes."""
        return [
            Route("/", self._page(self._definitions)),
            Route("/sequences/{name}", self._page(self._sequence)),
            Route("/sequences/{name}/timeline", self._page(self._timeline)),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/style.css", self._stylesheet),
        ]

    # ---- pages

    def _definitions(self, _: Request, key: ApiKey) -> tuple[str, Values]:
        service = self._service
        now = service.clock.now()
        opened = [s for s in service.plan.sequences.values() if key.may_read(s.name)]
        names = {event.name for sequence in opened for event in sequence.events}
        freshness = {n: f for n, f in service.reader.freshness().items() if n in names}
        return "definitions.html", {
            "plan": service.plan.fingerprint,
            "sequences": [describe_briefly(sequence) for sequence in opened],
            "events": self._states(freshness, now),
            "behind": service.lateness.behind(freshness, now),
        }

    def _sequence(self, request: Request, key: ApiKey) -> tuple[str, Values]:
        sequence = self._opened(request, key)
        words = explain(self._service.plan, sequence.name)
        return "sequence.html", {"sequence": describe_fully(sequence), "words": words}

    def _timeline(self, request: Request, key: ApiKey) -> tuple[str, Values]:
        sequence = self._opened(request, key)
        pairs = [pair for pair in parse_qsl(request.url.query, max_num_fields=100) if pair[1]]
        given = dict(pairs)
        values: Values = {
            "sequence": describe_fully(sequence),
            "entity": given.get("entity", ""),
            "as_of_given": given.get("as_of", ""),
            "known_at_given": given.get("known_at", ""),
            "what": "",
        }
        try:
            values |= self._account(sequence, pairs)
        except SequencePlatformError as error:
            values |= {"what": error.what, "facts": error.facts, "status": refusal_of(error).status}
        return "timeline.html", values

    def _account(self, sequence: SequencePlan, pairs: Iterable[tuple[str, str]]) -> Values:
        service = self._service
        pairs = list(pairs)
        asked = urlencode([pair for pair in pairs if pair[0] != "entity"]).encode()
        entity = entity_of(sequence, dict(pairs).get("entity", ""))
        query = service.parser.of_text(sequence, asked)
        account = service.reader.account_for(sequence.name, entity, query)
        moment = min(account.as_of, service.clock.now())
        return describe_account(account) | {
            "freshness": self._states(account.freshness, moment),
            "behind": service.lateness.behind(account.freshness, moment),
        }

    def _opened(self, request: Request, key: ApiKey) -> SequencePlan:
        name = request.path_params["name"]
        if not key.may_read(name):
            raise Refused(403, f"key '{key.name}' does not open '{name[:100]}'")
        return self._service.reader.sequence(name)

    def _states(self, freshness: Mapping[str, Freshness], moment: datetime) -> list[Values]:
        """Return how far each event type is, in words."""
        lateness = self._service.lateness
        behind = set(lateness.behind(freshness, moment))
        states = []
        for name, each in freshness.items():
            lag = lateness.lag_of(name, each, moment)
            if name not in lateness.streamed:
                state, mood = "not streamed", "soft"
            elif lag is None:
                state, mood = "never streamed", "bad"
            else:
                state = (
                    f"{_lasting(lag.total_seconds())} behind" if name in behind else "up to date"
                )
                mood = "warn" if name in behind else "good"
            definition = self._service.plan.events[name].definition
            states.append(
                {
                    "name": name,
                    "owner": definition.owner,
                    "state": state,
                    "mood": mood,
                    "streamed_until": told(each.streamed_until)
                    if name in lateness.streamed
                    else "",
                    "settled_until": told(each.settled_until),
                    "manifest": each.manifest,
                }
            )
        return states

    # ---- around them

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            request.scope["sequence_platform"] |= {"endpoint": "page"}
            try:
                key = self._service.access.admit(request.headers.raw)
                template, values = page(request, key)
            except (Refused, SequencePlatformError) as error:
                return self._refused(refusal_of(error))
            return self._rendered(template, values | {"key": key}, values.get("status", 200))

        return handle

    def _refused(self, refused: Refused) -> Response:
        if refused.status == UNAUTHORIZED:
            return self._rendered("login.html", {"wrong": False, "key": None}, UNAUTHORIZED)
        values = {"what": str(refused), "facts": refused.facts, "key": None}
        return self._rendered("error.html", values, refused.status)

    def _rendered(self, template: str, values: Values, status: int) -> Response:
        now = told(self._service.clock.now())
        text = self._templates.get_template(template).render(now=now, **values)
        return Response(text, status, HEADERS, media_type="text/html")

    async def _login(self, request: Request) -> Response:
        body = await read_body(request, MAX_FORM)
        given = dict(parse_qsl(body.decode("latin-1"), max_num_fields=10)).get("key", "").strip()
        if not self._is_known(given):
            return self._rendered("login.html", {"wrong": True, "key": None}, UNAUTHORIZED)
        response = RedirectResponse("/", 303, HEADERS)
        response.set_cookie(
            COOKIE.decode(),
            given,
            httponly=True,
            samesite="strict",
            secure=self._service.options.is_secure,
        )
        return response

    def _is_known(self, key: str) -> bool:
        """Return whether a key can be a cookie, and is one of ours."""
        if len(key) > MAX_KEY or not key.replace("_", "").replace("-", "").isalnum():
            return False
        try:
            self._service.access.identify([(b"cookie", COOKIE + b"=" + key.encode())])
        except Refused:
            return False
        return True

    async def _logout(self, _: Request) -> Response:
        response = RedirectResponse("/", 303, HEADERS)
        response.delete_cookie(COOKIE.decode(), httponly=True, samesite="strict")
        return response

    async def _stylesheet(self, _: Request) -> Response:
        headers = {"cache-control": "max-age=300", "x-content-type-options": "nosniff"}
        return Response(self._style, headers=headers, media_type="text/css")


def _lasting(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
