"""The caller itself, tokens of persons, and sessions of the page, over HTTP."""

from __future__ import annotations

import msgspec
from aiohttp import web

from leptond import schema
from leptond.api.http import identity, sessions
from leptond.api.http.identity import TOKEN
from leptond.api.http.routing import Call, Reply, Table
from leptond.api.views import bodies
from leptond.base.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from leptond.core.access.policies import Policy
from leptond.core.access.roles import Role
from leptond.services.sign_in import Person
from leptond.store.access.tokens import Token

table = Table("access")

DEFAULT_S = 90 * 86400.0
"""Life of a token that says nothing else."""

SESSION_S = 12 * 3600.0
"""Life of a session of the page."""


def _shown(one: Token) -> schema.Token:
    return schema.Token(
        id=one.id,
        kind=one.kind,
        name=one.name,
        user=one.user,
        uid=one.uid,
        role=one.role,
        made_by=one.made_by,
        made_at=bodies.instant(one.made_at),
        expires_at=bodies.instant(one.expires_at),
        last_used_at=bodies.maybe_instant(one.last_used_at),
    )


def _person(call: Call, role: Role) -> Person:
    caller = call.caller
    return Person(user=caller.user, uid=caller.uid, role=role)


def _must_be_local(call: Call, what: str) -> None:
    """Raises Forbidden unless the kernel says who the caller is: a revoked token must have made no other."""
    if identity.peer(call.request) is None:
        raise Forbidden(f"{what} only over the Unix socket", hint="ask on the machine itself, without --host")


def _account(call: Call, body: schema.NewToken) -> tuple[str, int | None, Role]:
    """User, uid and role of a new token. Raises Forbidden, Invalid."""
    caller = call.caller
    user = body.user or caller.user
    account = identity.account_of(user)
    if user != caller.user and not caller.admin:
        raise Forbidden("only an administrator makes tokens for others", hint="leave the user out")
    if user == caller.user:
        uid, most = caller.uid, caller.role
    else:
        uid = account.uid if account is not None else None
        most = call.context.identities.of_account(user, uid).caller.role if uid is not None else Role.ADMIN
    role = body.role or most.at_most(Role.USER)
    if not most.covers(role):
        raise Forbidden(
            f"a token of {user} cannot have the role {role}: the account has {most}",
            hint="an administrator names operators and admins by [access] in the configuration",
        )
    if (
        uid is not None
        and account is not None
        and not identity.may_connect(account, call.context.places.socket)
    ):
        raise Invalid(f"{user} may not use this queue", pointer="/user", hint="add the account to its group")
    return user, uid, role


@table.route("GET", "/v1/me", Policy.LOOK, answer=schema.Me)
async def me(call: Call) -> schema.Me:
    """Return who the caller is, and its role."""
    return _me(call)


@table.route("GET", "/v1/tokens", Policy.PERSON, answer=schema.TokenList)
async def list_tokens(call: Call) -> schema.TokenList:
    """List one's own tokens and sessions; administrators see all."""
    return schema.TokenList(items=[_shown(one) for one in _visible(call)])


@table.route("POST", "/v1/tokens", Policy.PERSON, body=schema.NewToken, answer=schema.MadeToken, status=201)
async def make_token(call: Call) -> Reply:
    """Make a token. Its secret is told in the answer and never again."""
    _must_be_local(call, "tokens are made")
    body: schema.NewToken = call.body
    user, uid, role = _account(call, body)
    lifetime_s = body.lifetime_s or min(DEFAULT_S, call.context.settings.access.token_max_s)
    if lifetime_s > call.context.settings.access.token_max_s:
        raise Invalid(
            f"tokens live for at most {call.context.settings.access.token_max_s:g} s here",
            pointer="/lifetime_s",
            hint="the setting is access.token_max_s",
        )
    token, secret = await call.context.registry.make(
        "token", body.name, user, uid, role, lifetime_s=lifetime_s, by=call.caller.user
    )
    return Reply(schema.MadeToken(token=_shown(token), secret=secret), status=201)


@table.route("DELETE", "/v1/tokens/{id}", Policy.PERSON, status=204, errors=(404, 409))
async def revoke_token(call: Call) -> None:
    """Revoke a token (by its id, or by its name where only one has it) or end a session, at once, with the
    streams that it has opened."""
    wanted, visible = call.path("id"), _visible(call)
    named = [one for one in visible if one.kind == "token" and one.name == wanted]
    found = next((one for one in visible if one.id == wanted), named[0] if len(named) == 1 else None)
    if len(named) > 1 and found is None:
        raise Conflict(f"{len(named)} tokens are called {wanted}", hint="revoke it by its id")
    if found is None:
        raise NotFound(f"there is no token {wanted[:40]!r}", hint="`leptonctl token list` lists them")
    if call.caller.read_only and found is not call.request.get(TOKEN):
        raise Forbidden("this caller only looks", hint="use a login or a token that may change things")
    await call.context.registry.revoke(found, by=call.caller.user)


@table.route(
    "POST",
    "/v1/session",
    Policy.SIGN_IN,
    body=schema.SignIn,
    answer=schema.SignedIn,
    status=201,
    errors=(401,),
)
async def sign_in(call: Call) -> web.Response:
    """Sign in to the page: a link or a token for a session, whose cookie the answer sets."""
    return await _sign_in(call)


@table.route("DELETE", "/v1/session", Policy.PERSON, status=204)
async def sign_out(call: Call) -> web.Response:
    """Sign out: end the session that the request came in."""
    token: Token | None = call.request.get(TOKEN)
    if token is not None and token.kind == "session":
        await call.context.registry.revoke(token, by=call.caller.user)
    response = web.Response(status=204)
    sessions.drop_cookie(response, call.context.page_port)
    return response


def _visible(call: Call) -> list[Token]:
    every = call.context.registry.all()
    caller = call.caller
    return (
        every if caller.admin else [one for one in every if (one.user, one.uid) == (caller.user, caller.uid)]
    )


def _me(call: Call) -> schema.Me:
    caller, context = call.caller, call.context
    local = identity.peer(call.request) is not None
    token: Token | None = call.request.get(TOKEN)
    answer = schema.Me(
        user=caller.user,
        admin=caller.admin,
        read_only=caller.read_only,
        uid=caller.uid,
        role=caller.role,
        groups=sorted(caller.groups),
        job=caller.job,
        via="socket" if local else token.kind if token is not None else "token",
        token=token.id if token is not None else None,
        sees_everything=call.rights.sees_everything,
    )
    # a link goes only to a person that the kernel identifies
    address = context.page_url()
    if local and caller.job is None and address is not None:
        base = f"{address}/#login="
        answer.page_url = base + context.sign_in.make(_person(call, caller.role))
        answer.page_url_read_only = base + context.sign_in.make(_person(call, Role.VIEWER))
    return answer


async def _sign_in(call: Call) -> web.Response:
    body: schema.SignIn = call.body
    context = call.context
    if (body.code is None) == (body.token is None):
        raise Invalid("sign in with either a code or a token", pointer="/code")
    person = _whom(call, body)
    if person is None:
        context.wrong_secrets.count(call.request)
        raise Unauthorized(
            "this link is not good any more" if body.code is not None else "this token is not valid",
            hint="`leptonctl dashboard` on the machine makes a new link",
        )
    token, secret = await context.registry.make(
        "session", "page", person.user, person.uid, person.role, lifetime_s=SESSION_S, by=person.user
    )
    rights = context.identities.of_token(token)
    half, key = sessions.split(secret)
    signed_in = schema.SignedIn(
        key=key,
        user=person.user,
        role=rights.caller.role,
        expires_at=bodies.instant(token.expires_at),
    )
    response = web.Response(status=201, body=msgspec.json.encode(signed_in), content_type="application/json")
    secure = bool(context.settings.http.tls_cert or context.settings.http.behind_tls_proxy)
    sessions.set_cookie(response, context.page_port, half, secure=secure)
    return response


def _whom(call: Call, body: schema.SignIn) -> Person | None:
    context = call.context
    if body.code is not None:
        return context.sign_in.redeem(body.code)
    secret = body.token or ""
    own = context.identities.of_file_token(secret)
    if own is not None:
        return Person(user=own.caller.user, uid=own.caller.uid, role=own.caller.role)
    found = context.identities.of_secret(secret)
    if found is None or found[1].kind == "session":
        return None
    return Person(user=found[1].user, uid=found[1].uid, role=found[1].role)
