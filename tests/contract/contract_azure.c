/* SPDX-License-Identifier: MIT
 * contract_azure.c: the suite over backend = azure, against the server of QUAY_AZURE_ENDPOINT,
 * QUAY_AZURE_ACCOUNT, QUAY_AZURE_KEY and QUAY_AZURE_CONTAINER (which exists). Without them it fails: ctest -L
 * contract_azure is for where there is a server; pytest runs it with Azurite. */
#include "tests/contract/suite.h"

#include "backends/http.h"

static const char *need(const char *name)
{
    const char *v = getenv(name);
    if (!v || !*v) {
        fprintf(stderr, "%s is not set\n", name);
        exit(1);
    }
    return v;
}

static char *section(const char *prefix, const char *more)
{
    return xasprintf("[store t]\nbackend = azure\nendpoint_url = %s\naccount = %s\naccount_key = %s\n"
                     "container = %s\nbase_path = %s\n%s\n",
                     need("QUAY_AZURE_ENDPOINT"), need("QUAY_AZURE_ACCOUNT"), need("QUAY_AZURE_KEY"),
                     need("QUAY_AZURE_CONTAINER"), prefix, more);
}

static void run_suite(const char *label, const char *prefix, const char *more)
{
    CLEANUP_FREE char *text = section(prefix, more);
    struct stats *stats = stats_new();
    struct suite s;
    suite_init(&s, label, open_store(text, stats));
    suite_run(&s);
    suite_done(&s);
    stats_free(stats);
}

static void below_a_prefix(void)
{
    run_suite("azure with base_path", "a prefix/with+odd&chars", "");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("readonly", ""),
                      *ro = section("readonly", "read_only = yes\n");
    struct suite suite = {.store = open_store(text, NULL), .label = "azure, readonly"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "object", "content", NULL);
    struct store *writable = s->store;
    s->store = open_store(ro, NULL);
    suite_refusals(s, "object", "content");
    suite_done(s);
    s->store = writable;
    OK(store_remove(s->store, &s->op, "object", NULL));
    suite_done(s);
}

int main(void)
{
    http_global_init();
    RUN(below_a_prefix);
    RUN(refusals);
    return t_done();
}
