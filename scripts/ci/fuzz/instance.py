"""Calls an instance as one of its people, and makes the objects that a request needs to succeed.

What is made here is asked for beside what is fuzzed: it is neither recorded nor counted.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import temporalio.client

with open(os.environ["ENDPOINTS"]) as endpoints:
    AT = json.load(endpoints)
API = AT["api_url"]
# The leaver is who may erase themselves: whoever signs in as the same subject afterwards is somebody new. Their
# organisation's owner stays.
PEOPLE = {"user": ("dev-user", "dev123"), "admin": ("dev-admin", "admin123"), "leaver": ("acme-member", "acme123"), "stayer": ("acme-owner", "acme123")}
# A token is signed anew well before it ends.
TOKEN_SECONDS = 60
# A machine may be busy with other things than this.
PATIENCE_SECONDS = 60

_tokens = {}
_turns = itertools.count(1)


def new(what):
    """A name that nobody has yet."""
    return f"fuzz-{what}-{os.getpid()}-{next(_turns)}"


def grant(**form):
    form = {"client_id": AT["client_id"], "client_secret": AT["client_secret"], **form}
    with urllib.request.urlopen(AT["token_url"], urllib.parse.urlencode(form).encode()) as answer:
        return json.load(answer)


def tokens(role):
    name, password = PEOPLE[role]
    return grant(grant_type="password", username=name, password=password, scope="openid offline_access")


def token(role):
    made, at = _tokens.get(role, (None, 0))
    if time.monotonic() - at > TOKEN_SECONDS:
        made = tokens(role)["access_token"]
        _tokens[role] = made, time.monotonic()
    return made


def ask(bearer, method, path, body=None):
    """One request; its status and what it answered."""
    request = urllib.request.Request(API + path, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {bearer}")
    request.add_header("Content-Type", "application/json")
    request.add_header("X-Idempotency-Key", new("prepare"))
    try:
        with urllib.request.urlopen(request, timeout=2 * PATIENCE_SECONDS) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


def call(role, method, path, body=None, patient=False):
    """A request that must succeed; a patient one gives what others changed a moment ago the time to be known, and any that which is away."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, answer = ask(token(role), method, path, body)
        if status < 300:
            return answer
        if not patient and status != 503 or time.monotonic() >= until:
            sys.exit(f"fuzz: preparing: {method} {path} as {role} answers {status} {json.dumps(answer)}")
        time.sleep(0.05)


def attempt(role, method, path, body=None):
    """A request that may be refused: what it brings about may be so already."""
    return ask(token(role), method, path, body)


def everything(role, path, **query):
    """The items of a list, page after page."""
    while True:
        page = call(role, "GET", f"{path}?{urllib.parse.urlencode({'limit': 200, **query})}")
        yield from page["items"]
        if "next_cursor" not in page:
            return
        query["cursor"] = page["next_cursor"]


REASON = {"reason": "fuzzing"}


def user():
    return call("admin", "POST", "/api/v1/admin/users", {"issuer": AT["issuer_url"], "username": new("user"), **REASON})["id"]


def suspended_user():
    made = user()
    call("admin", "POST", f"/api/v1/admin/users/{made}/suspend", REASON)
    return made


def operator():
    made = user()
    call("admin", "POST", "/api/v1/admin/platform-admins", {"user_id": made, **REASON})
    return made


def tenant():
    name = new("tenant")
    return call("admin", "POST", "/api/v1/admin/tenants", {"org_id": name, "name": name, **REASON})["id"]


def suspended_tenant():
    made = tenant()
    call("admin", "POST", f"/api/v1/admin/tenants/{made}/suspend", REASON)
    return made


def closed_tenant():
    made = tenant()
    call("admin", "POST", f"/api/v1/admin/tenants/{made}/close", REASON)
    return made


def owned_tenant(role, owner_id):
    """A tenant that the role's person owns beside their home."""
    made = tenant()
    call("admin", "POST", f"/api/v1/admin/tenants/{made}/owners", {"user_id": owner_id, **REASON})
    call(role, "GET", f"/api/v1/tenants/{made}", patient=True)
    return made


def closed_owned_tenant(role, owner_id):
    made = owned_tenant(role, owner_id)
    call(role, "POST", f"/api/v1/tenants/{made}/close", REASON)
    return made


def member(tenant_id):
    """Somebody who belongs to the tenant, beside its first owner."""
    made = user()
    call("admin", "POST", f"/api/v1/admin/tenants/{tenant_id}/owners", {"user_id": made, **REASON})
    return made


def project_member(tenant_id, project_id, role):
    made = member(tenant_id)
    call(role, "PUT", f"/api/v1/projects/{project_id}/members/{made}", {"role": "viewer"}, patient=True)
    return made


def project(role):
    return call(role, "POST", "/api/v1/projects", {"name": new("project")})["id"]


def invitation(role):
    return call(role, "POST", "/api/v1/invitations", {"role": "viewer"})["invitation"]["id"]


def invitation_from(role, owner_id):
    """The token of an invitation into a tenant that nobody but the role's person belongs to."""
    made = tenant()
    call("admin", "POST", f"/api/v1/admin/tenants/{made}/owners", {"user_id": owner_id, **REASON})
    return call(role, "POST", "/api/v1/invitations", {"tenant_id": made, "role": "viewer"}, patient=True)["token"]


def invitation_to(role, owner_id, address):
    """An invitation, for an address, into a tenant that nobody but the role's person belongs to."""
    made = tenant()
    call("admin", "POST", f"/api/v1/admin/tenants/{made}/owners", {"user_id": owner_id, **REASON})
    return call(role, "POST", "/api/v1/invitations", {"tenant_id": made, "role": "viewer", "email": address}, patient=True)["invitation"]["id"]


def personal_token(role):
    return call(role, "POST", "/api/v1/tokens", {"name": new("token"), "scopes": ["profile:read"]})["id"]


def service_account(role):
    return call(role, "POST", "/api/v1/service-accounts", {"name": new("service"), "role": "member"})["id"]


def service_secret(role, account):
    return call(role, "POST", f"/api/v1/service-accounts/{account}/secrets", {}, patient=True)


def public_key():
    """An SSH key that nobody has; that nobody could sign with it is no matter here."""
    kind = b"ssh-ed25519"
    wire = len(kind).to_bytes(4) + kind + (32).to_bytes(4) + os.urandom(32)
    return f"{kind.decode()} {base64.b64encode(wire).decode()} fuzz@example.com"


def ssh_key(role):
    return call(role, "POST", "/api/v1/ssh-keys", {"name": new("key"), "public_key": public_key()})["id"]


# Where nobody listens, on this machine: what is sent there has failed at once.
UNHEARD = "https://127.0.0.1:1/"


def webhook(role):
    """An endpoint that hears of nothing but tests."""
    return call(role, "POST", "/api/v1/webhooks", {"url": UNHEARD, "event_types": ["webhooks.endpoint_disabled"]})["webhook"]["id"]


def webhook_delivery(role, endpoint):
    """A delivery that has ended, so that it can be asked for again."""
    made = call(role, "POST", f"/api/v1/webhooks/{endpoint}/test")["id"]
    await_that("the test of a webhook ends", lambda: call(role, "GET", f"/api/v1/webhook-deliveries/{made}")["state"] != "pending")
    return made


def allocation(role, sku, state="active"):
    """An allocation of the role's person, once it is in the state."""
    made = call(role, "POST", "/api/v1/allocations", {"sku": sku, "name": new("allocation")}, patient=True)["id"]
    call(role, "GET", f"/api/v1/allocations/{made}/wait?state={state}&timeout_seconds={PATIENCE_SECONDS}")
    return made


def give_back(allocation_id):
    """Frees an allocation's node, unless the allocation ends already."""
    attempt("admin", "POST", f"/api/v1/admin/allocations/{allocation_id}/force-release", REASON)


def budgeted_project(role):
    made = project(role)
    call(role, "PUT", f"/api/v1/projects/{made}/budget", {"amount_minor": 1000, "period": "month"}, patient=True)
    return made


def await_that(what, condition, seconds=2 * PATIENCE_SECONDS):
    """What the condition answers, once that is true of anything."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"fuzz: preparing: it does not come about that {what}")


def await_state(role, path, *states):
    def there():
        found = call(role, "GET", path)
        return found if found["state"] in states else None

    return await_that(f"{path} is {' or '.join(states)}", there)


def pay(page):
    """What somebody does on a page of the stand-in."""
    try:
        urllib.request.urlopen(page, urllib.parse.urlencode({"outcome": "pay"}).encode()).close()
    except urllib.error.HTTPError:
        pass  # where the browser is sent afterwards need not be there


def payment(role, amount_minor):
    """A deposit that was paid on the stand-in's page and is credited."""
    made = call(role, "POST", "/api/v1/payments/checkout", {"amount_minor": amount_minor})
    path = f"/api/v1/payments/{made['id']}"
    pay(await_state(role, path, "open")["checkout_url"])
    return await_state(role, path, "credited")["id"]


def abandoned_payments(role, many):
    """Deposits that are under way and whose workflows were terminated, as by mistake."""
    made = [call(role, "POST", "/api/v1/payments/checkout", {"amount_minor": 1000})["id"] for _ in range(many)]
    for payment_id in made:
        await_state(role, f"/api/v1/payments/{payment_id}", "open")

    async def terminate():
        cluster = await temporalio.client.Client.connect(AT["temporal_address"], namespace=AT["temporal_namespace"])
        for payment_id in made:
            await cluster.get_workflow_handle(f"payment/{payment_id}").terminate("fuzzing")

    asyncio.run(terminate())


def saved_card(role):
    """Has a card saved where the role's person is at home, unless one is."""
    if attempt(role, "GET", "/api/v1/billing/card")[0] == 200:
        return
    pay(call(role, "POST", "/api/v1/billing/card", {})["checkout_url"])
    await_that("the card is saved", lambda: attempt(role, "GET", "/api/v1/billing/card")[0] == 200)


def refund(role, payment_id):
    made = call(role, "POST", f"/api/v1/payments/{payment_id}/refunds", {"amount_minor": 1, "reason": "fuzzing"})["id"]
    return await_state(role, f"/api/v1/refunds/{made}", "succeeded")["id"]


def stripe_event(secret):
    """An event that Stripe might send and that nobody acts on, and the signature of the bytes that it is sent as."""
    event = {
        "id": new("evt"), "object": "event", "type": "customer.created", "created": int(time.time()), "api_version": "2023-10-16", "livemode": False,
        "data": {"object": {"id": new("cus"), "object": "customer"}},
    }
    at = int(time.time())
    signed = hmac.new(secret.encode(), f"{at}.{json.dumps(event)}".encode(), hashlib.sha256).hexdigest()
    return event, f"t={at},v1={signed}"


def pending_user():
    """Somebody whose sign-up waits: the one subject of the issuer that has not signed in yet. None where it has."""
    path = "/api/v1/admin/policies/identity.sign_up"
    call("admin", "PUT", path, {"value": "approval", **REASON})
    ask(grant(grant_type="client_credentials")["access_token"], "GET", "/api/v1/me")
    call("admin", "PUT", path, {"value": "open", **REASON})
    waiting = call("admin", "GET", "/api/v1/admin/users?status=pending")["items"]
    return waiting[0]["id"] if waiting else None


def publish(subject, body):
    """Puts a message on the bus, as its text protocol has it, and waits for the server to have read it."""
    bus = urllib.parse.urlsplit(AT["nats_url"])
    with socket.create_connection((bus.hostname, bus.port), timeout=PATIENCE_SECONDS) as wire, wire.makefile("rb") as answers:
        options = {"verbose": False, "user": urllib.parse.unquote(bus.username or ""), "pass": urllib.parse.unquote(bus.password or "")}
        wire.sendall(f"CONNECT {json.dumps(options)}\r\nPUB {subject} {len(body)}\r\n".encode() + body + b"\r\nPING\r\n")
        for line in answers:
            if line.startswith(b"-ERR"):
                sys.exit(f"fuzz: preparing: the bus answers {line.decode().strip()}")
            if line.startswith(b"PONG"):
                return


def dead_letter():
    """A letter about an event that names no tenant, which nobody can be told of."""
    event_id = str(uuid.uuid4())
    publish("billing.balance_adjusted", json.dumps({
        "event_id": event_id, "event_type": "billing.balance_adjusted", "occurred_at": "2026-01-05T09:30:00.000Z", "version": "1.0",
        "correlation_id": "fuzz", "payload": {},
    }).encode())

    def found():
        return next((letter["id"] for letter in everything("admin", "/api/v1/admin/dead-letters") if letter.get("event_id") == event_id), None)

    return await_that("an event that nobody can be told of becomes a dead letter", found)


def ask_stripe(path, form):
    """A request of Stripe's API, as the platform's account."""
    request = urllib.request.Request(AT["stripe_url"] + path, data=None if form is None else urllib.parse.urlencode(form).encode())
    request.add_header("Authorization", f"Bearer {os.environ['STRIPE_SECRET_KEY']}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


# What one operator may correct alone.
CHEAP_MINOR = 10_000


def unmatched_payments(account_id, amounts_minor):
    """Money that Stripe took for an account and that nobody here knows of."""
    customer = ask_stripe("/v1/customers", {})["id"]
    session = ask_stripe("/v1/checkout/sessions", {"mode": "setup", "customer": customer, "currency": "usd", "success_url": API})
    pay(session["url"])
    card = ask_stripe(f"/v1/setup_intents/{session['setup_intent']}", None)["payment_method"]
    for amount in amounts_minor:
        ask_stripe("/v1/payment_intents", {
            "amount": amount, "currency": "usd", "customer": customer, "payment_method": card, "confirm": "true", "off_session": "true",
            "metadata[account_id]": account_id,
        })


def reconciliation():
    """A reconciliation that could make every check; one that could not is made again."""
    def completed():
        made = call("admin", "POST", "/api/v1/admin/reconciliation/runs", {})["id"]
        return made if await_state("admin", f"/api/v1/admin/reconciliation/runs/{made}", "completed", "incomplete")["state"] == "completed" else None

    return await_that("a reconciliation makes every check", completed)


def open_findings():
    """What reconciliations found and nobody has acted on, by id with its amount."""
    about = (call("admin", "GET", f"/api/v1/admin/reconciliation/findings/{one['id']}")
             for one in everything("admin", "/api/v1/admin/reconciliation/findings", state="open", kind="payment_unmatched"))
    return {one["id"]: one["amount_micros"] for one in about if "correction" not in one}


def resumable_findings():
    """What reconciliations found to have no workflow and can be resumed."""
    return [one["id"] for one in everything("admin", "/api/v1/admin/reconciliation/findings", state="open", kind="payment_without_workflow") if one["resumable"]]


def proposal(finding_id):
    """A correction that another operator proposes."""
    return call("stayer", "POST", f"/api/v1/admin/reconciliation/findings/{finding_id}/corrections", REASON)["id"]
