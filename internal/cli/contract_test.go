package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// answer is what the contract says an operation answers: the example of its success.
type answer struct {
	operation, method string
	path              *regexp.Regexp
	status            int
	body              []byte
}

// contract answers as schema/openapi.yaml says, and remembers the operations it was asked for.
type contract struct {
	*httptest.Server
	answers []answer
	mu      sync.Mutex
	asked   []string
}

func newContract(t *testing.T) *contract {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "schema", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `yaml:"operationId"`
			Responses   map[string]struct {
				Content map[string]struct {
					Example  any `yaml:"example"`
					Examples map[string]struct {
						Value any `yaml:"value"`
					} `yaml:"examples"`
				} `yaml:"content"`
			} `yaml:"responses"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	c := &contract{}
	for path, operations := range document.Paths {
		for method, operation := range operations {
			if operation.OperationID == "" {
				continue
			}
			a := answer{operation: operation.OperationID, method: strings.ToUpper(method),
				path: regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")}
			for code, response := range operation.Responses {
				if !strings.HasPrefix(code, "2") {
					continue
				}
				a.status, _ = strconv.Atoi(code)
				example := response.Content["application/json"].Example
				for _, named := range response.Content["application/json"].Examples {
					example = named.Value
				}
				if a.body, err = json.Marshal(example); err != nil {
					t.Fatal(err)
				}
			}
			c.answers = append(c.answers, a)
		}
	}
	if len(c.answers) < 80 {
		t.Fatalf("the contract has only %d operations: it was not read", len(c.answers))
	}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *contract) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, a := range c.answers {
		// A literal address such as /invitations/accept is no id of another one.
		if a.method != r.Method || !a.path.MatchString(r.URL.Path) {
			continue
		}
		c.mu.Lock()
		c.asked = append(c.asked, a.operation)
		c.mu.Unlock()
		if a.status == http.StatusNoContent {
			w.WriteHeader(a.status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
		return
	}
	http.NotFound(w, r)
}

// run invokes one command against the contract and answers code, stdout, stderr and the operations it asked for.
func (c *contract) run(t *testing.T, input string, arguments ...string) (code int, stdout, stderr string, asked []string) {
	t.Helper()
	c.answered()
	environment := map[string]string{"GPUAAS_API_URL": c.URL, "GPUAAS_TOKEN": "a-token", "GPUAAS_CONFIG": filepath.Join(t.TempDir(), "contexts.json")}
	var out, errs bytes.Buffer
	code = Main(t.Context(), Terminal{In: strings.NewReader(input), Out: &out, Err: &errs,
		Environment: func(key string) string { return environment[key] }}, arguments)
	return code, out.String(), errs.String(), c.answered()
}

// answered is the operations asked for since it was called last. Whoever asks may be another process, so only the
// lock orders its requests and this.
func (c *contract) answered() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

// invocation is one way to run a command, and the operations that it comes to.
type invocation struct {
	line  string // with spaces between arguments
	input string
	asks  []string
}

// invocations is at least one of every command.
var invocations = []invocation{
	{"status", "", []string{"getReadiness"}},
	{"status --live", "", []string{"getHealth"}},
	{"login --token-stdin", "a-token", []string{"getMe"}},
	{"login --service-account sa_a --secret-stdin", "a-secret", []string{"exchangeToken", "getMe"}},
	{"logout", "", nil},
	{"whoami", "", []string{"getMe"}},
	{"context list", "", nil},
	{"context set work --server http://127.0.0.1:1", "", nil},
	{"sku list", "", []string{"listSkus"}},
	{"sku get h100-8x", "", []string{"getSku"}},
	{"alloc create h100-8x", "", []string{"createAllocation"}},
	{"alloc create h100-8x --wait", "", []string{"createAllocation", "waitAllocation", "getAllocation"}},
	{"alloc list", "", []string{"listAllocations"}},
	{"alloc list --all-tenants", "", []string{"adminListAllocations"}},
	{"alloc get alloc_a", "", []string{"getAllocation"}},
	{"alloc explain alloc_a", "", []string{"explainAllocation"}},
	{"alloc timeline alloc_a", "", []string{"getAllocationTimeline"}},
	{"alloc release alloc_a --yes", "", []string{"getAllocation", "releaseAllocation"}},
	{"balance", "", []string{"getBalance", "getRunway"}},
	{"ledger", "", []string{"listLedgerEntries"}},
	{"ledger export --from 2026-01-01 --to 2026-02-01 --format json --file -", "", []string{"listLedgerEntries"}},
	{"usage --from 2026-03-01 --to 2026-04-01 --by day,sku", "", []string{"getUsage"}},
	{"statement list", "", []string{"listStatements"}},
	{"statement get 2026-03", "", []string{"getStatement"}},
	{"statement save 2026-03 --file -", "", []string{"getStatementDocument"}},
	{"wallet deposit 25", "", []string{"createCheckout"}},
	{"wallet deposits", "", []string{"listPayments"}},
	{"wallet show pay_a", "", []string{"getPayment"}},
	{"wallet refund pay_a 12.50 --reason r", "", []string{"createRefund"}},
	{"wallet refunds", "", []string{"listRefunds"}},
	{"wallet show-refund ref_a", "", []string{"getRefund"}},
	{"wallet receipt pay_a", "", []string{"getPaymentReceipt"}},
	{"wallet receipt ref_a", "", []string{"getRefundReceipt"}},
	{"wallet receipt pay_a --file -", "", []string{"getPaymentReceiptDocument"}},
	{"wallet receipt ref_a --file -", "", []string{"getRefundReceiptDocument"}},
	{"wallet card add", "", []string{"createCard"}},
	{"wallet card show", "", []string{"getCard"}},
	{"wallet card remove --yes", "", []string{"deleteCard"}},
	{"wallet auto-topup show", "", []string{"getAutoTopUp"}},
	{"wallet auto-topup set --threshold 20 --amount 50 --cap 200", "", []string{"putAutoTopUp"}},
	{"wallet auto-topup off", "", []string{"getAutoTopUp", "putAutoTopUp"}},
	{"admin payments --state held", "", []string{"adminListPayments"}},
	{"admin disputes", "", []string{"adminListDisputes"}},
	{"tenant list", "", []string{"listTenants"}},
	{"tenant get tenant_a", "", []string{"getTenant"}},
	{"tenant rename tenant_a Acme", "", []string{"updateTenant"}},
	{"project list", "", []string{"listProjects"}},
	{"project get project_a", "", []string{"getProject"}},
	{"project create vision", "", []string{"createProject"}},
	{"project rename project_a vision", "", []string{"updateProject"}},
	{"project budget get project_a", "", []string{"getProjectBudget"}},
	{"project budget set project_a 500.00 --period total --warn-at 90", "", []string{"putProjectBudget"}},
	{"project budget delete project_a", "", []string{"deleteProjectBudget"}},
	{"project archive project_a --yes", "", []string{"archiveProject"}},
	{"project member list project_a", "", []string{"listProjectMembers"}},
	{"project member set project_a user_a member", "", []string{"putProjectMember"}},
	{"project member remove project_a user_a --yes", "", []string{"removeProjectMember"}},
	{"member list tenant_a", "", []string{"listTenantMembers"}},
	{"member set-role tenant_a user_a viewer", "", []string{"updateTenantMember"}},
	{"member remove tenant_a user_a --yes", "", []string{"removeTenantMember"}},
	{"invitation list", "", []string{"listInvitations"}},
	{"invitation create", "", []string{"createInvitation"}},
	{"invitation revoke invitation_a --yes", "", []string{"revokeInvitation"}},
	{"invitation accept -", "a-token", []string{"acceptInvitation"}},
	{"invitation accept inv_a", "", []string{"acceptMyInvitation"}},
	{"invitation mine", "", []string{"listMyInvitations"}},
	{"node list", "", []string{"listNodes"}},
	{"node get node_a", "", []string{"getNode"}},
	{"node enrol-token gpu-1 --sku h100-8x", "", []string{"createNodeEnrolToken"}},
	{"node cordon node_a --reason r", "", []string{"cordonNode"}},
	{"node uncordon node_a --reason r", "", []string{"uncordonNode"}},
	{"node drain node_a --reason r", "", []string{"drainNode"}},
	{"node quarantine node_a --reason r", "", []string{"quarantineNode"}},
	{"node unquarantine node_a --reason r", "", []string{"unquarantineNode"}},
	{"node deny node_a --reason r --yes", "", []string{"denyNode"}},
	{"policy list", "", []string{"listPolicies"}},
	{"policy get billing.window_seconds", "", []string{"getPolicy"}},
	{"policy set billing.window_seconds 30 --reason r", "", []string{"setPolicy"}},
	{"policy set billing.window_seconds 30 auth.sign_up open --reason r", "", []string{"setPolicies"}},
	{"policy history billing.window_seconds", "", []string{"listPolicyVersions"}},
	{"policy rollback billing.window_seconds 0 --reason r", "", []string{"rollbackPolicy"}},
	{"admin force-release alloc_a --reason r --yes", "", []string{"forceReleaseAllocation"}},
	{"admin credit acct_a 25 --reason r", "", []string{"createAdjustment"}},
	{"admin price h100-8x 25", "", []string{"addSkuPrice"}},
	{"admin prices h100-8x", "", []string{"listSkuPrices"}},
	{"admin sku h100-8x", "{}", []string{"putSku"}},
	{"admin override list tenant_a", "", []string{"listTenantPolicies"}},
	{"admin override set tenant_a allocation.max 3 --reason r", "", []string{"setTenantPolicies"}},
	{"admin override clear tenant_a allocation.max --reason r", "", []string{"setTenantPolicies"}},
	{"admin override history tenant_a allocation.max", "", []string{"listTenantPolicyVersions"}},
	{"admin override prices tenant_a", "", []string{"listTenantPrices"}},
	{"admin override price tenant_a h100-8x 20 --reason r", "", []string{"setTenantPrice"}},
	{"admin user list", "", []string{"listUsers"}},
	{"admin user get user_a", "", []string{"getUser"}},
	{"admin user create ada --issuer https://issuer --reason r", "", []string{"createUser"}},
	{"admin user approve user_a --reason r", "", []string{"approveUser"}},
	{"admin user suspend user_a --reason r --yes", "", []string{"suspendUser"}},
	{"admin user restore user_a --reason r", "", []string{"restoreUser"}},
	{"admin tenant list", "", []string{"adminListTenants"}},
	{"admin tenant get tenant_a", "", []string{"adminGetTenant"}},
	{"admin tenant create acme Acme --reason r", "", []string{"createTenant"}},
	{"admin tenant set-owner tenant_a user_a --reason r", "", []string{"setTenantOwner"}},
	{"admin tenant suspend tenant_a --reason r --yes", "", []string{"suspendTenant"}},
	{"admin tenant restore tenant_a --reason r", "", []string{"restoreTenant"}},
	{"admin tenant close tenant_a --reason r --yes", "", []string{"adminCloseTenant"}},
	{"admin tenant reopen tenant_a --reason r", "", []string{"adminReopenTenant"}},
	{"admin refunds-due", "", []string{"listRefundsDue"}},
	{"tenant export tenant_a", "", []string{"exportTenant"}},
	{"tenant close tenant_a --reason r --yes", "", []string{"closeTenant"}},
	{"tenant reopen tenant_a --reason r", "", []string{"reopenTenant"}},
	{"me export", "", []string{"exportMe"}},
	{"me delete --yes", "", []string{"deleteMe"}},
	{"admin platform-admin list", "", []string{"listPlatformAdmins"}},
	{"admin platform-admin appoint user_a --reason r", "", []string{"appointPlatformAdmin"}},
	{"admin platform-admin dismiss user_a --reason r --yes", "", []string{"dismissPlatformAdmin"}},
	{"admin ledger verify", "", []string{"verifyLedger"}},
	{"admin outbox show", "", []string{"getOutbox"}},
	{"admin outbox rewind 2026-01-05T09:00:00Z --reason r", "", []string{"rewindOutbox"}},
	{"admin dlq list", "", []string{"listDeadLetters"}},
	{"admin dlq show 42", "", []string{"getDeadLetter"}},
	{"admin dlq replay 42 --reason r", "", []string{"replayDeadLetter"}},
	{"admin dlq discard 42 --reason r --yes", "", []string{"discardDeadLetter"}},
	{"admin reconcile run --whole", "", []string{"startReconciliation"}},
	{"admin reconcile runs", "", []string{"listReconciliations"}},
	{"admin reconcile show-run recon_a", "", []string{"getReconciliation"}},
	{"admin reconcile list --state open", "", []string{"listFindings"}},
	{"admin reconcile show find_a", "", []string{"getFinding"}},
	{"admin reconcile dismiss find_a --reason r", "", []string{"dismissFinding"}},
	{"admin reconcile resume find_a --reason r", "", []string{"resumeFinding"}},
	{"admin reconcile correct find_a --reason r", "", []string{"proposeCorrection"}},
	{"admin reconcile approve corr_a --reason r", "", []string{"approveCorrection"}},
	{"notifications list", "", []string{"listNotifications"}},
	{"notifications preferences show", "", []string{"getNotificationPreferences"}},
	{"notifications preferences set --off receipts,balance", "", []string{"setNotificationPreferences"}},
	{"notifications read 0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10", "", []string{"readNotifications"}},
	{"webhook create https://example.com/hook --event provisioning.active", "", []string{"createWebhook"}},
	{"webhook list", "", []string{"listWebhooks"}},
	{"webhook get hook_a", "", []string{"getWebhook"}},
	{"webhook update hook_a --all-events", "", []string{"updateWebhook"}},
	{"webhook enable hook_a", "", []string{"updateWebhook"}},
	{"webhook disable hook_a", "", []string{"updateWebhook"}},
	{"webhook rotate hook_a --overlap 60", "", []string{"rotateWebhookSecret"}},
	{"webhook test hook_a", "", []string{"testWebhook"}},
	{"webhook delete hook_a --yes", "", []string{"deleteWebhook"}},
	{"webhook deliveries hook_a --state failed", "", []string{"listWebhookDeliveries"}},
	{"webhook delivery dlv_a", "", []string{"getWebhookDelivery"}},
	{"webhook redeliver dlv_a", "", []string{"redeliverWebhook"}},
	{"admin account list", "", []string{"listAccounts"}},
	{"admin account balance acct_a", "", []string{"getAccountBalance"}},
	{"token create ci --scope allocations:read", "", []string{"createToken"}},
	{"token list", "", []string{"listTokens"}},
	{"token revoke token_a --yes", "", []string{"revokeToken"}},
	{"service-account create ci --role member", "", []string{"createServiceAccount", "createServiceAccountSecret"}},
	{"service-account list", "", []string{"listServiceAccounts"}},
	{"service-account get sa_a", "", []string{"getServiceAccount"}},
	{"service-account rotate sa_a", "", []string{"createServiceAccountSecret"}},
	{"service-account disable sa_a", "", []string{"updateServiceAccount"}},
	{"service-account enable sa_a", "", []string{"updateServiceAccount"}},
	{"service-account revoke-secret sa_a secret_a --yes", "", []string{"revokeServiceAccountSecret"}},
	{"key add laptop testdata/id_ed25519.pub", "", []string{"createSSHKey"}},
	{"key list", "", []string{"listSSHKeys"}},
	{"key delete key_a", "", []string{"deleteSSHKey"}},
	{"audit", "", []string{"getMe", "listTenantAudit"}},
	{"audit --all", "", []string{"listAudit"}},
	{"evidence get alloc_a", "", []string{"getAllocationEvidence"}},
	{"evidence keys", "", []string{"listEvidenceKeys"}},
}

// withoutCommand is every operation that no invocation above asks for, and why.
var withoutCommand = map[string]string{
	"receiveStripeWebhook": "for Stripe alone, which signs it",
	"getResourceMetadata":  "asked by a login that is told no issuer: TestALoginAsksThePlatformWhoSignsPeopleIn",
	"getSession":           "a browser's session, by a cookie",
	"signOut":              "ends a browser's session; gpuaas logout ends this program's at the issuer",
	"logIn":                "off by default, and a password belongs to the issuer: gpuaas login asks there",
	"refreshToken":         "for programs without an issuer's address; this one renews at the issuer",
}

// coveredElsewhere is every command that asks nothing of the API's contract, and the test that runs it.
var coveredElsewhere = []string{
	"gpuaas evidence verify",                                             // evidence_test.go
	"gpuaas notifications watch",                                         // notifications_watch_test.go
	"gpuaas context show", "gpuaas context use", "gpuaas context delete", // contexts_test.go
}

func TestEveryOperationHasACommandAndEveryCommandRuns(t *testing.T) {
	server := newContract(t)
	asked, ran := map[string]bool{}, map[string]bool{}
	for _, i := range invocations {
		t.Run(i.line, func(t *testing.T) {
			arguments := strings.Fields(i.line)
			for _, output := range []string{"table", "json", "yaml"} {
				code, stdout, stderr, operations := server.run(t, i.input, append(arguments, "-o", output)...)
				if code != ExitOK {
					t.Fatalf("-o %s ends with %d: %s", output, code, stderr)
				}
				if !slices.Equal(operations, i.asks) {
					t.Fatalf("it asks %v and not %v", operations, i.asks)
				}
				sameAsJSON(t, output, stdout)
			}
			for _, operation := range i.asks {
				asked[operation] = true
			}
			found, _, err := newRoot(Terminal{Environment: func(string) string { return "" }}).Find(arguments)
			if err != nil {
				t.Fatal(err)
			}
			ran[found.CommandPath()] = true
		})
	}
	for _, a := range server.answers {
		reason, excused := withoutCommand[a.operation]
		switch {
		case asked[a.operation] && excused:
			t.Errorf("%s has a command although it is said to have none: %s", a.operation, reason)
		case !asked[a.operation] && !excused:
			t.Errorf("%s has no command: add one with an invocation here, or say why not", a.operation)
		}
	}
	for _, path := range leaves(newRoot(Terminal{Environment: func(string) string { return "" }})) {
		if !ran[path] && !slices.Contains(coveredElsewhere, path) {
			t.Errorf("%s was not run: add an invocation", path)
		}
	}
}

// sameAsJSON says whether structured output is well formed.
func sameAsJSON(t *testing.T, output, stdout string) {
	t.Helper()
	var value any
	switch {
	case output == "json" && stdout != "" && json.Unmarshal([]byte(stdout), &value) != nil:
		t.Fatalf("stdout is not JSON: %s", stdout)
	case output == "yaml" && stdout != "" && yaml.Unmarshal([]byte(stdout), &value) != nil:
		t.Fatalf("stdout is not YAML: %s", stdout)
	}
}

func leaves(cmd *cobra.Command) []string {
	if !cmd.HasSubCommands() {
		return []string{cmd.CommandPath()}
	}
	var paths []string
	for _, child := range cmd.Commands() {
		paths = append(paths, leaves(child)...)
	}
	return paths
}

func TestYAMLHasTheFieldsOfJSONDigitByDigit(t *testing.T) {
	body := `{"id":"a: b","number":12345678901234567890,"f":1.50,"word":"yes","t":true,"none":null,"empty":[],"map":{},"list":[1,"2",{"x":"é \ud83d\ude00\n#"}]}`
	var out bytes.Buffer
	c := &command{Terminal: Terminal{Out: &out}, output: "yaml"}
	if err := c.show([]byte(body), nil); err != nil {
		t.Fatal(err)
	}
	for _, expected := range []string{"number: 12345678901234567890\n", "f: 1.50\n", "word: \"yes\"\n", "t: true\n", "none: null\n", "empty: []\n", "- \"2\"\n"} {
		if !strings.Contains(out.String(), expected) {
			t.Errorf("%q is not in\n%s", expected, out.String())
		}
	}
	var shown, sent any
	if err := yaml.Unmarshal(out.Bytes(), &shown); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(body, `\ud83d\ude00`, "😀")), &sent); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(shown)
	b, _ := json.Marshal(sent)
	if !bytes.Equal(a, b) {
		t.Fatalf("shown %s\nsent  %s", a, b)
	}
	if err := c.show([]byte(`{"a":[1,`), nil); err == nil {
		t.Error("half a document is shown")
	}
}
