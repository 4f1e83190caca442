/* SPDX-License-Identifier: MIT
 * contract_azure.c: the suite over backend = azure, against the server of QUAY_AZURE_ENDPOINT,
 * QUAY_AZURE_ACCOUNT, QUAY_AZURE_KEY and QUAY_AZURE_CONTAINER (which exists). Without them it fails: ctest -L
 * contract_azure is for where there is a server; pytest runs it with Azurite. */
#include "tests/contract/suite.h"

#include "backends/http.h"

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
    suite_over(label, text);
}

static void below_a_prefix(void)
{
    run_suite("azure with base_path", "a prefix/with+odd&chars", "");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("readonly", ""),
                      *ro = section("readonly", "read_only = yes\n");
    suite_read_only("azure, readonly", text, ro);
}

static void between(void)
{
    CLEANUP_FREE char *one = section("one place", ""), *two = section("another+place", "retries = 4\n");
    suite_between("azure, between", one, two);
}

int main(void)
{
    http_global_init();
    RUN(below_a_prefix);
    RUN(refusals);
    RUN(between);
    return t_done();
}
