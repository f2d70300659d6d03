"""Hooks of schemathesis: real objects in the place of invented ones, and a record of every exchange.

What is meant to be wrong stays as it is; everything else of the same request is made right, so that it is refused for what is
wrong with it and for nothing else. Where a request is right in form, an id that nobody has would only ever be answered 404 and a
name that is taken 409, so they are replaced: by objects of the instance, and, where a success uses its object up, by one made for
this request alone.
"""

import copy
import itertools
import json
import os
import time

import instance
import schemathesis
from schemathesis.core.parameters import ParameterLocation

with open(os.environ["FUZZ_OBJECTS"]) as objects:
    OBJECTS = json.load(objects)
RECORD = open(os.environ["FUZZ_RECORD"], "a", buffering=1)
ROLE = os.environ["FUZZ_ROLE"]
OTHER = "user" if ROLE == "admin" else "admin"
# Where the person is at home, and what is theirs; a leaver keeps nothing.
HOME = OBJECTS["homes"].get(ROLE, {})
SKU = OBJECTS["sku"]
turns = itertools.count(1)


def take(kind):
    """The objects of a kind by turns, the newest first."""
    pool = OBJECTS[kind]
    return pool[-1 - next(turns) % len(pool)]


# Which object stands for a parameter of a path or a query, by its name.
STANDING = {
    "allocation_id": lambda: take("allocations"),
    "account_id": lambda: take("accounts"),
    "node_id": lambda: take("nodes"),
    "sku": lambda: SKU,
    "key": lambda: take("policies")["key"],
    "tenant_id": lambda: HOME["tenant"],
    "project_id": lambda: HOME["project"],
    "user_id": lambda: OBJECTS["spare_user"],
    "invitation_id": lambda: HOME["invitation"],
    "token_id": lambda: HOME["token"],
    "service_account_id": lambda: HOME["spare_secret"]["client_id"],
    "secret_id": lambda: HOME["spare_secret"]["id"],
    "ssh_key_id": lambda: HOME["ssh_key"],
    "letter_id": lambda: OBJECTS["letter"],
    "webhook_id": lambda: HOME["webhook"],
    "delivery_id": lambda: HOME["delivery"],
    "payment_id": lambda: HOME["payment"],
    "refund_id": lambda: HOME["refund"],
    "run_id": lambda: OBJECTS["run"],
    "finding_id": lambda: OBJECTS["finding"],
    "correction_id": lambda: OBJECTS["correction"],
    "month": lambda: time.strftime("%Y-%m", time.gmtime()),
}


# What a query may name and no object of the instance stands for: a place in a list, days that do not follow on each other.
UNNAMED = {"listNotifications": ("after",), "getUsage": ("from", "to")}


# What must not stand for it where an operation could take it away from the others.
SPARED = {
    "suspendTenant": lambda: {"tenant_id": OBJECTS["spare_tenant"]},
    "restoreTenant": lambda: {"tenant_id": OBJECTS["spare_tenant"]},
    **{close: lambda: {"tenant_id": OBJECTS["spare_tenant"]} for close in ("closeTenant", "adminCloseTenant", "reopenTenant", "adminReopenTenant")},
    **{f"{step}Node": lambda: {"node_id": OBJECTS["expendable"][0]} for step in ("cordon", "uncordon", "drain", "quarantine", "unquarantine", "deny")},
    "putSku": lambda: {"sku": "fuzz-1x"},
    # A budget would keep the others from launching.
    **{f"{verb}ProjectBudget": lambda: {"project_id": HOME["budgeted"]} for verb in ("get", "put", "delete")},
    "listTenantPolicyVersions": lambda: {"key": next(one["key"] for one in OBJECTS["policies"] if one["tenant"])},
}


def denied():
    """A node to deny for ever; the last one is denied again and again."""
    return OBJECTS["expendable"].pop() if len(OBJECTS["expendable"]) > 1 else OBJECTS["expendable"][0]


def node_after(pool, step):
    """A node that the step was taken with, whether it had been before or not."""
    node = OBJECTS[pool]
    instance.attempt("admin", "POST", f"/api/v1/admin/nodes/{node}/{step}", instance.REASON)
    return {"node_id": node}


def secret_of_its_own():
    account = instance.service_account(ROLE)
    return {"service_account_id": account, "secret_id": instance.service_secret(ROLE, account)["id"]}


untouched_findings = {}


def untouched(of):
    """A finding that nobody has acted on: a cheap one, or a dear one, whose correction a second operator has to approve. The first is acted
    on again and again once there is no other."""
    if not untouched_findings:
        found = instance.open_findings()
        untouched_findings.update({kind: [one for one in sorted(found) if (found[one] > instance.CHEAP_MINOR * 10_000) == (kind == "dear")] for kind in ("cheap", "dear")})
    return untouched_findings[of].pop() if untouched_findings[of] else None


def finding_of_its_own():
    return {"finding_id": untouched("cheap") or OBJECTS["finding"]}


def resumable_of_its_own():
    """A finding that nobody has resumed; the last one again and again."""
    left = OBJECTS["resumable"]
    return {"finding_id": left.pop() if len(left) > 1 else left[0]}


def awaiting_correction():
    """A correction that another operator proposed."""
    dear = untouched("dear")
    return {"correction_id": instance.proposal(dear) if dear else OBJECTS["correction"]}


def awaited():
    waiting = OBJECTS["pending_users"]
    return {"user_id": waiting.pop() if waiting else OBJECTS["spare_user"]}


# What a success uses up or cannot be repeated with is made anew for each request.
FRESH = {
    "releaseAllocation": lambda: {"allocation_id": instance.allocation(ROLE, SKU)},
    "forceReleaseAllocation": lambda: {"allocation_id": instance.allocation(ROLE, SKU)},
    "denyNode": lambda: {"node_id": denied()},
    "cordonNode": lambda: node_after("cordoned", "uncordon"),
    "uncordonNode": lambda: node_after("cordoned", "cordon"),
    "drainNode": lambda: node_after("cordoned", "uncordon"),
    "quarantineNode": lambda: node_after("quarantined", "unquarantine"),
    "unquarantineNode": lambda: node_after("quarantined", "quarantine"),
    "approveUser": awaited,
    "suspendUser": lambda: {"user_id": instance.user()},
    "restoreUser": lambda: {"user_id": instance.suspended_user()},
    "dismissPlatformAdmin": lambda: {"user_id": instance.operator()},
    "suspendTenant": lambda: {"tenant_id": instance.tenant()},
    "restoreTenant": lambda: {"tenant_id": instance.suspended_tenant()},
    "closeTenant": lambda: {"tenant_id": instance.owned_tenant(ROLE, HOME["user"])},
    "reopenTenant": lambda: {"tenant_id": instance.closed_owned_tenant(ROLE, HOME["user"])},
    "adminCloseTenant": lambda: {"tenant_id": instance.tenant()},
    "adminReopenTenant": lambda: {"tenant_id": instance.closed_tenant()},
    "updateTenantMember": lambda: {"user_id": instance.member(HOME["tenant"])},
    "removeTenantMember": lambda: {"user_id": instance.member(HOME["tenant"])},
    "putProjectMember": lambda: {"user_id": instance.member(HOME["tenant"])},
    "removeProjectMember": lambda: {"user_id": instance.project_member(HOME["tenant"], HOME["project"], ROLE)},
    "updateProject": lambda: {"project_id": instance.project(ROLE)},
    "archiveProject": lambda: {"project_id": instance.project(ROLE)},
    "deleteProjectBudget": lambda: {"project_id": instance.budgeted_project(ROLE)},
    "revokeInvitation": lambda: {"invitation_id": instance.invitation(ROLE)},
    "acceptMyInvitation": lambda: {"invitation_id": instance.invitation_to(OTHER, OBJECTS["homes"][OTHER]["user"], instance.PEOPLE[ROLE][0] + "@localhost")},
    "revokeToken": lambda: {"token_id": instance.personal_token(ROLE)},
    "updateServiceAccount": lambda: {"service_account_id": instance.service_account(ROLE)},
    "createServiceAccountSecret": lambda: {"service_account_id": instance.service_account(ROLE)},
    "revokeServiceAccountSecret": secret_of_its_own,
    "deleteSSHKey": lambda: {"ssh_key_id": instance.ssh_key(ROLE)},
    "updateWebhook": lambda: {"webhook_id": instance.webhook(ROLE)},
    "deleteWebhook": lambda: {"webhook_id": instance.webhook(ROLE)},
    "redeliverWebhook": lambda: {"delivery_id": instance.webhook_delivery(ROLE, instance.webhook(ROLE))},
    "replayDeadLetter": lambda: {"letter_id": instance.dead_letter()},
    "discardDeadLetter": lambda: {"letter_id": instance.dead_letter()},
    "dismissFinding": finding_of_its_own,
    "resumeFinding": resumable_of_its_own,
    "proposeCorrection": finding_of_its_own,
    "approveCorrection": awaiting_correction,
}

# What has to be so where a person is at home, for what has no id of its own.
BEFORE = {operation: lambda: instance.saved_card(ROLE) for operation in ("getCard", "deleteCard", "putAutoTopUp")}


def create_allocation(body):
    body.pop("ssh_key_ids", None)
    body.update(sku=SKU, name="fuzz", labels={"of": "fuzz"})
    if "ssh_keys" in body:
        body["ssh_keys"] = [instance.public_key()]


def create_invitation(body):
    # One project alone has no owner and nobody who pays.
    if body.get("role") in ("owner", "billing"):
        body.pop("project_id", None)


def create_user(body):
    body.pop("subject", None)
    body.pop("org_id", None)
    body["username"] = instance.new("user")


def hear_nothing(body):
    """Nothing that happens in the instance is sent anywhere."""
    if "url" in body:
        body["url"] = instance.UNHEARD
    body["event_types"] = ["webhooks.endpoint_disabled"]


def exchange_token(body):
    body.pop("scope", None)
    body.update(client_id=HOME["secret"]["client_id"], client_secret=HOME["secret"]["client_secret"])


def price(body):
    body.pop("valid_from", None)
    body.update(currency="usd", rate_micros_per_hour=int(body.get("rate_micros_per_hour") or 0) % 10_000_000)
    if "sku" in body:
        body["sku"] = SKU


def keep_policies(body):
    """The instance survives being set to what holds anyway, and nothing else."""
    body["changes"] = [{"key": one["key"], "value": one["value"]} for one in OBJECTS["policies"] if one["tenant"]]


def back_here(body):
    """A browser is sent back to pages of this site alone."""
    for name in ("success_url", "cancel_url"):
        body.pop(name, None)


def create_checkout(body):
    """A deposit within policy."""
    back_here(body)
    body.update(currency="usd", amount_minor=1000 + int(body.get("amount_minor") or 0) % 90_000)


# What exists only by agreement, in the body of an operation.
BODIES = {
    "createAllocation": create_allocation,
    "createInvitation": create_invitation,
    "acceptInvitation": lambda body: body.update(token=instance.invitation_from(OTHER, OBJECTS["homes"][OTHER]["user"])),
    "createUser": create_user,
    "appointPlatformAdmin": lambda body: body.update(user_id=instance.user()),
    "setTenantOwner": lambda body: body.update(user_id=instance.user()),
    "createTenant": lambda body: body.update(org_id=instance.new("org")),
    "createProject": lambda body: body.update(name=instance.new("project")),
    "updateProject": lambda body: body.update(name=instance.new("project")),
    "createServiceAccount": lambda body: body.update(name=instance.new("service")),
    "createSSHKey": lambda body: body.update(name=instance.new("key"), public_key=instance.public_key()),
    "createWebhook": hear_nothing,
    "updateWebhook": hear_nothing,
    "createToken": lambda body: body.update(scopes=["profile:read"]),
    "exchangeToken": exchange_token,
    "logIn": lambda body: body.update(zip(("username", "password"), instance.PEOPLE[ROLE])),
    "refreshToken": lambda body: body.update(refresh_token=instance.tokens(ROLE)["refresh_token"], client_id=instance.AT["client_id"]),
    "forceReleaseAllocation": lambda body: body.update(abandon_node=False),
    "createAdjustment": lambda body: body.update(currency="usd", amount_minor=abs(int(body.get("amount_minor") or 1)) % 100_000 + 1),
    "addSkuPrice": price,
    "setTenantPrice": price,
    "createNodeEnrolToken": lambda body: body.update(sku=SKU, hostname=instance.new("node")),
    "setPolicies": keep_policies,
    "setTenantPolicies": keep_policies,
    "createCheckout": create_checkout,
    "createCard": back_here,
    "setNotificationPreferences": lambda body: body.update(email_off=[one for one in body.get("email_off", []) if one != "releases"]),
    "putAutoTopUp": lambda body: body.update(HOME["top_up"]),
    "createRefund": lambda body: body.update(amount_minor=1),
    "rollbackPolicy": lambda body: body.update(version=0),
    "rewindOutbox": lambda body: body.update(since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))),
}


def negative(case, location):
    return case.meta is not None and case.meta.is_negative_at(location)


def make_path_right(case, operation, whole):
    for name in case.path_parameters or {}:
        if name in STANDING:
            case.path_parameters[name] = STANDING[name]()
    chosen = FRESH if whole and operation in FRESH else SPARED
    if operation in chosen:
        case.path_parameters.update(chosen[operation]())


def make_query_right(case, operation):
    for name in ("cursor", *UNNAMED.get(operation, ())):
        (case.query or {}).pop(name, None)
    for name in list(case.query or {}):
        if name == "timeout_seconds":
            case.query[name] = 0
        elif name in STANDING:
            case.query[name] = STANDING[name]()


def make_body_right(case, operation):
    # What is generated is shared with the cases that come after it.
    body = copy.deepcopy(case.body)
    for name, own in (("tenant_id", HOME["tenant"]), ("project_id", HOME["project"])):
        if name in body:
            body[name] = own
    body.pop("expected_version", None)
    if operation in BODIES:
        BODIES[operation](body)
    elif operation == "setPolicy":
        # A key that is no policy's has no value either.
        body["value"] = next((one["value"] for one in OBJECTS["policies"] if one["key"] == case.path_parameters["key"]), 1)
    case.body = body


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw.get("operationId", "")
    if case.method.upper() != case.operation.method.upper():
        return
    if "X-Idempotency-Key" in (case.headers or {}) and not negative(case, ParameterLocation.HEADER):
        # Each call is an intent of its own, unless it was to be refused for its key.
        case.headers["X-Idempotency-Key"] = instance.new(ROLE)
    wrong = [location for location in (ParameterLocation.PATH, ParameterLocation.QUERY, ParameterLocation.HEADER, ParameterLocation.BODY) if negative(case, location)]
    # Whom an operator's operation refuses anyway needs no object of their own.
    allowed = ROLE == "admin" or not case.path.startswith("/api/v1/admin/")
    if operation in BEFORE and allowed and not wrong:
        BEFORE[operation]()
    if case.path_parameters and ParameterLocation.PATH not in wrong:
        make_path_right(case, operation, whole=allowed and not wrong)
    if ParameterLocation.QUERY not in wrong:
        make_query_right(case, operation)
    if isinstance(case.body, dict) and allowed and ParameterLocation.BODY not in wrong:
        make_body_right(case, operation)
    if operation == "receiveStripeWebhook" and not wrong:
        case.body, signature = instance.stripe_event(OBJECTS["stripe_webhook_secret"])
        case.headers = {**(case.headers or {}), "Stripe-Signature": signature}


@schemathesis.hook
def after_call(context, case, response):
    operation = case.operation.definition.raw.get("operationId", "")
    code = ""
    if response.status_code >= 400:
        try:
            code = response.json().get("code", "")
        except Exception:
            code = "(no envelope)"
    elif operation == "createAllocation" and response.status_code == 201:
        # The node is wanted back for whoever asks next.
        instance.give_back(response.json()["id"])
    path = response.request.url.split("?")[0] if response.request is not None else ""
    method = response.request.method if response.request is not None else case.method
    RECORD.write(json.dumps({"at": time.time(), "role": ROLE, "operation": operation, "method": method, "path": path, "status": response.status_code, "code": code}) + "\n")


@schemathesis.hook
def after_network_error(context, case, request):
    RECORD.write(json.dumps({"role": ROLE, "operation": case.operation.definition.raw.get("operationId", ""), "method": request.method, "path": request.url, "status": 0, "code": "(no answer)"}) + "\n")


# Addresses that are spelt out where another operation's path has an id, which then refuses them for it.
READ_AS_IDS = ("/admin/nodes/enrol-tokens", "/payments/checkout", "/payments/webhook")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    return not (failure.title == "Wrong response to undeclared method" and response.status_code in (404, 422) and case.path.endswith(READ_AS_IDS))
