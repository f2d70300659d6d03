"""Seeds a running instance with objects in several states, fuzzes its API by its contract as two people, and judges.

It is told where the instance is by the file that ENDPOINTS names, and ends with a line "requests N failed M". N= is the least number
of requests, SEED= makes what is generated the same again.
"""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import instance
from instance import API, call

OUT = os.environ["FUZZ_OUT"]
LEAST = int(os.environ.get("N") or 3000)
SEED = int(os.environ.get("SEED") or time.time_ns() % 2**31)
BUDGET_SECONDS = int(os.environ.get("BUDGET_SECONDS") or 1800)
RECORD = os.path.join(OUT, "record.jsonl")
OBJECTS = os.path.join(OUT, "objects.json")
# What a user may call at all.
OWN = ("--exclude-path-regex", "^/api/v1/admin/")
# What ends its caller: only the leaver calls it.
LEAVING = "deleteMe"
# A run of fewer requests than this leaves the edges of every single parameter out, and invents less in a round.
WHOLE = 3000
# How many requests of an operation one round invents.
EXAMPLES = 6 if LEAST >= WHOLE else 2
# How many findings of each kind a round may use up, of how many cents the cheap ones are, and how late a payment may be.
FINDINGS, CENTS, LAG_SECONDS = 25 if LEAST >= WHOLE else 8, 100, 10
# The share of requests that must succeed: a fuzzer that is refused at the door has seen nothing.
LEAST_SHARE = 0.30
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method"
)


def seed():
    """Makes objects in several states and says which there are."""
    for account in call("admin", "GET", "/api/v1/admin/accounts")["items"]:
        call("admin", "POST", f"/api/v1/admin/accounts/{account['id']}/adjustments", {"amount_minor": 5_000_000, "currency": "usd", "reason": "fuzzing"})
    # More requests than a person makes, and no real machines: what is fuzzed is the API.
    keys = [policy["key"] for policy in call("admin", "GET", "/api/v1/admin/policies")["items"]]
    for key, value in {
        "provisioning.runtime_mode": "noop",
        "allocation.max_concurrent_per_user": 1000,
        "reconciliation.lag_tolerance_seconds": LAG_SECONDS,
        "reconciliation.second_approver_minor": instance.CHEAP_MINOR,
        **{key: 1_000_000 for key in keys if key.startswith("rate_limit.")},
    }.items():
        policy = call("admin", "GET", f"/api/v1/admin/policies/{key}")
        call("admin", "PUT", f"/api/v1/admin/policies/{key}", {"value": min(value, policy["max"]) if "max" in policy else value, "reason": "fuzzing"})
    sku = call("user", "GET", "/api/v1/skus")["items"][0]["sku"]
    nodes = call("admin", "GET", "/api/v1/admin/nodes?limit=200")["items"]
    rented = [node["id"] for node in nodes if node["sku"] == sku]
    expendable = [node["id"] for node in nodes if node["sku"] != sku]
    if not rented or len(expendable) < 4:
        sys.exit(f"fuzz: {len(rented)} nodes of {sku} and {len(expendable)} others are too few")
    # A correction takes two operators.
    call("admin", "POST", "/api/v1/admin/platform-admins", {"user_id": call("stayer", "GET", "/api/v1/me")["user"]["id"], **instance.REASON})
    homes = {role: home(role) for role in ("user", "admin")}
    run = stock(homes["user"]["account"])
    findings = instance.open_findings()
    finding = min(findings, key=findings.get)
    allocations = [instance.allocation("user", sku) for _ in range(4)]
    call("user", "POST", f"/api/v1/allocations/{allocations[0]}/release")
    call("user", "GET", f"/api/v1/allocations/{allocations[0]}/wait?state=released&timeout_seconds=30")
    pending = instance.pending_user()
    call("admin", "PUT", "/api/v1/admin/policies/webhooks.maximum_endpoints", {"value": 1000, **instance.REASON})
    policies = [p for p in call("admin", "GET", "/api/v1/admin/policies")["items"] if p["key"].startswith(("billing.low_balance", "notification.", "allocation.refund"))]
    return {
        "homes": homes,
        "sku": sku,
        "nodes": rented,
        "cordoned": expendable.pop(),
        "quarantined": expendable.pop(),
        "expendable": expendable,
        "accounts": [account["id"] for account in call("admin", "GET", "/api/v1/admin/accounts")["items"]],
        "allocations": allocations,
        "spare_user": instance.user(),
        "spare_tenant": instance.tenant(),
        "pending_users": [pending] if pending else [],
        "letter": instance.dead_letter(),
        "run": run,
        "finding": finding,
        "resumable": instance.resumable_findings(),
        "correction": instance.proposal(finding),
        "stripe_webhook_secret": os.environ["STRIPE_WEBHOOK_SECRET"],
        "policies": [{"key": p["key"], "value": p["value"], "tenant": p["tenant"]} for p in policies],
    }


def stock(account_id):
    """Makes findings to act on, and answers the run that found them."""
    instance.unmatched_payments(account_id, [CENTS] * FINDINGS + [2 * instance.CHEAP_MINOR] * FINDINGS)
    instance.abandoned_payments("user", FINDINGS)
    time.sleep(LAG_SECONDS + 1)
    run = instance.reconciliation()
    instance.await_that("a payment that nobody knows of is found", instance.open_findings)
    instance.await_that("a payment that nobody is at work on is found", instance.resumable_findings)
    return run


def home(role):
    """Where a person is at home, and what is theirs there."""
    me = call(role, "GET", "/api/v1/me")
    payment = instance.payment(role, 50_000)
    webhook = instance.webhook(role)
    instance.saved_card(role)
    limits = call(role, "GET", "/api/v1/billing/auto-topup")
    secret, spare = (instance.service_secret(role, instance.service_account(role)) for _ in range(2))
    return {
        "user": me["user"]["id"],
        "tenant": me["tenant"]["id"],
        "project": me["project"]["id"],
        "account": limits["account_id"],
        "top_up": {
            "threshold_minor": limits["minimum_threshold_minor"],
            "amount_minor": limits["minimum_amount_minor"],
            "monthly_cap_minor": limits["minimum_amount_minor"],
        },
        "invitation": instance.invitation(role),
        "token": instance.personal_token(role),
        "secret": secret,
        "spare_secret": spare,
        "ssh_key": instance.ssh_key(role),
        "webhook": webhook,
        "delivery": instance.webhook_delivery(role, webhook),
        "payment": payment,
        "refund": instance.refund(role, payment),
        "budgeted": instance.budgeted_project(role),
    }


def fuzz(role, phases, mode, examples, seed_of_round, *more):
    """One run of schemathesis; what it finds is printed and counted, every exchange stands in the record."""
    token = instance.tokens(role)["access_token"]
    here = os.path.dirname(os.path.abspath(__file__))
    whose = "--include-operation-id" if role == "leaver" else "--exclude-operation-id"
    command = [
        os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", os.path.join(here, "schemathesis.toml"), "run", f"{API}/api/v1/openapi.json", "--url", API,
        "--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--phases", phases, "--mode", mode, "--max-examples", str(examples),
        "--seed", str(seed_of_round), "--no-shrink", "--continue-on-failure", "--suppress-health-check", "all", "--workers", "1",
        "--generation-database", "none", "--request-timeout", "30", "--warnings", "off", "--no-color", whose, LEAVING, *more,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": here,
                   "FUZZ_OBJECTS": OBJECTS, "FUZZ_RECORD": RECORD, "FUZZ_ROLE": role}
    with open(os.path.join(OUT, f"{role}-{phases}-{mode}-{seed_of_round}.log"), "w") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=OUT)
    with open(log.name) as log:
        said = log.read()
    # 1 means failed checks; anything else is no result at all.
    if ended.returncode not in (0, 1):
        print(said[-4000:])
        sys.exit(f"fuzz: schemathesis ended with {ended.returncode}")
    if ended.returncode == 1:
        findings = [said.find(f"= {kind} =") for kind in ("ERRORS", "FAILURES")]
        print(said[min(at for at in findings if at >= 0) : said.rfind("= SUMMARY =")] if max(findings) >= 0 else said[-4000:])
        # However it words its summary, a run that found something counts as one failure at least.
        return max(1, sum(int(count) for count in re.findall(r"^ +(?:❌|🚫) [A-Z][^:\n]*: (\d+)$", said, re.MULTILINE)))
    return 0


def records():
    with open(RECORD) as lines:
        return [json.loads(line) for line in lines]


def judge(operations, found):
    exchanges = records()
    histogram = collections.Counter((one["role"], one["status"]) for one in exchanges)
    print("fuzz: answers by role and status")
    for (role, status), count in sorted(histogram.items()):
        print(f"  {role:6} {status:4} {count:6}")
    broken = found
    for one in exchanges:
        if one["status"] == 0 or one["status"] >= 500 or one["code"] in ("(no envelope)", ""):
            if one["status"] == 503 and one["operation"] == "getReadiness":
                continue
            if one["status"] == 0 or one["status"] >= 400:
                broken += 1
                print(f"fuzz: {one['method']} {one['path']} as {one['role']} answers {one['status']} {one['code']}")
    reached = {one["operation"] for one in exchanges if 200 <= one["status"] < 300}
    for operation in sorted(operations - reached):
        broken += 1
        answers = collections.Counter((one["status"], one["code"]) for one in exchanges if one["operation"] == operation)
        print(f"fuzz: {operation} never answered 2xx: {dict(answers)}")
    share = sum(1 for one in exchanges if 200 <= one["status"] < 300) / max(len(exchanges), 1)
    print(f"fuzz: {len(reached)} of {len(operations)} operations answered 2xx; {share:.0%} of all requests did (at least {LEAST_SHARE:.0%})")
    if share < LEAST_SHARE:
        broken += 1
    if len(exchanges) < LEAST:
        broken += 1
        print(f"fuzz: {len(exchanges)} requests are fewer than {LEAST}")
    print(f"requests {len(exchanges)} failed {broken}")
    return broken == 0


def main():
    # So that whatever runs below ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    print(f"fuzz: seed {SEED}, at least {LEAST} requests")
    open(RECORD, "w").close()
    with urllib.request.urlopen(f"{API}/api/v1/openapi.json") as answer:
        contract = json.load(answer)
    operations = {operation["operationId"] for item in contract["paths"].values() for operation in item.values()}
    made = seed()
    with open(OBJECTS, "w") as objects:
        json.dump(made, objects)
    # The examples and the edges of the contract as both, then rounds of invented values: one at least, and until there are enough.
    phases = "examples,coverage" if LEAST >= WHOLE else "examples"
    found = fuzz("admin", phases, "all", 1, SEED)
    found += fuzz("user", phases, "all", 1, SEED, *OWN)
    # That nothing of an administrator's is a user's, one call of each operation shows.
    found += fuzz("user", "examples", "positive", 1, SEED, "--include-path-regex", "^/api/v1/admin/")
    found += fuzz("leaver", phases, "all", 1, SEED)
    turn = 0
    while turn == 0 or len(records()) < LEAST and time.monotonic() - begun < BUDGET_SECONDS:
        turn += 1
        stock(made["homes"]["user"]["account"])
        found += fuzz("admin", "fuzzing", "positive", EXAMPLES, SEED + turn)
        found += fuzz("user", "fuzzing", "positive", EXAMPLES, SEED + turn, *OWN)
        found += fuzz("admin", "fuzzing", "negative", EXAMPLES, SEED + turn)
    sys.exit(0 if judge(operations, found) else 1)


main()
