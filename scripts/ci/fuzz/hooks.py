"""Hooks of schemathesis: real objects in the place of invented ids, and a record of every exchange.

What is generated stays as it is where it is meant to be wrong. Where it is right in form, an id that nobody has would only ever
be answered 404, so it is replaced by one of the instance's own; so are the few values that only exist by agreement (a SKU,
a host name that is free, a public key, a policy key that the instance survives).
"""

import itertools
import json
import os

import schemathesis

OBJECTS = json.load(open(os.environ["FUZZ_OBJECTS"]))
RECORD = open(os.environ["FUZZ_RECORD"], "a", buffering=1)
ROLE = os.environ["FUZZ_ROLE"]
turns = itertools.count(1)


def take(kind):
    """The objects of a kind by turns, the newest first."""
    pool = OBJECTS[kind]
    return pool[-1 - next(turns) % len(pool)]


def positive(case):
    meta = case.meta
    return meta is None or meta.generation.mode.name == "POSITIVE"


# Which object stands for a path parameter, by operation where it matters.
PATHS = {
    "allocation_id": lambda op: take("releasable" if op in ("releaseAllocation", "forceReleaseAllocation") else "allocations"),
    "account_id": lambda op: take("accounts"),
    "node_id": lambda op: take("expendable" if op in ("denyNode", "quarantineNode", "unquarantineNode") else "nodes"),
    "sku": lambda op: take("skus"),
    "key": lambda op: take("policies")["key"],
}


@schemathesis.hook
def before_call(context, case, kwargs):
    if not positive(case):
        # The instance has to survive a wrong guess that happens to be a right one.
        if case.operation.definition.raw.get("operationId") == "setPolicy" and case.path_parameters:
            case.path_parameters["key"] = "billing.low_balance_threshold_minor"
        return
    operation = case.operation.definition.raw.get("operationId", "")
    if case.method != "GET" and "X-Idempotency-Key" in (case.headers or {}):
        # Each call is an intent of its own, unless it was to be refused for its key.
        case.headers["X-Idempotency-Key"] = f"fuzz-{ROLE}-{os.getpid()}-{next(turns)}"
    for name in list(case.path_parameters or {}):
        if name in PATHS:
            case.path_parameters[name] = PATHS[name](operation)
    query = case.query or {}
    query.pop("cursor", None)
    for name in list(query):
        if name == "allocation_id":
            query[name] = take("allocations")
        elif name == "tenant_id":
            query[name] = OBJECTS["tenant"]
        elif name == "project_id":
            query[name] = OBJECTS["project"]
        elif name == "timeout_seconds":
            query[name] = 0
        elif name == "sku":
            query[name] = take("skus")
    body = case.body
    if not isinstance(body, dict):
        return
    if operation == "createAllocation":
        body["sku"] = OBJECTS["skus"][0]
        body.pop("project_id", None)
        body["name"] = "fuzz"
        body["labels"] = {"of": "fuzz"}
        if "ssh_keys" in body:
            body["ssh_keys"] = OBJECTS["ssh_keys"]
    elif operation == "createAdjustment":
        body.update(currency="usd", amount_minor=abs(int(body.get("amount_minor") or 1)) % 100000 + 1)
    elif operation == "addSkuPrice":
        body.pop("valid_from", None)
        body.update(currency="usd", rate_micros_per_hour=int(body.get("rate_micros_per_hour") or 0) % 10_000_000)
    elif operation == "createNodeEnrolToken":
        body["sku"] = OBJECTS["skus"][0]
        body["hostname"] = f"fuzz-{ROLE}-{os.getpid()}-{next(turns)}"
    elif operation == "setPolicy":
        chosen = next(p for p in OBJECTS["policies"] if p["key"] == case.path_parameters["key"])
        body["value"] = chosen["value"]
        body.pop("expected_version", None)


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
        created = response.json()["id"]
        OBJECTS["allocations"].append(created)
        OBJECTS["releasable"].append(created)
    path = response.request.url.split("?")[0] if response.request is not None else ""
    method = response.request.method if response.request is not None else case.method
    RECORD.write(json.dumps({"role": ROLE, "operation": operation, "method": method, "path": path, "status": response.status_code, "code": code}) + "\n")


@schemathesis.hook
def after_network_error(context, case, request):
    RECORD.write(json.dumps({"role": ROLE, "operation": case.operation.definition.raw.get("operationId", ""), "method": request.method, "path": request.url, "status": 0, "code": "(no answer)"}) + "\n")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """An address that is spelt out (enrol-tokens) may be read as the id in another operation's path, which then refuses it."""
    return not (failure.title == "Wrong response to undeclared method" and response.status_code in (404, 422) and case.path.endswith("/enrol-tokens"))
