/* SPDX-License-Identifier: MIT
 * contract_gcs.c: the suite over backend = gcs, against the server of QUAY_GCS_ENDPOINT and QUAY_GCS_BUCKET
 * (which exists). Without them it fails: ctest -L contract_gcs is for where there is a server; pytest runs it
 * with a server of its own. QUAY_GCS_OPTIONS may add lines to the section. */
#include "tests/contract/suite.h"

#include "backends/http.h"

static char *section(const char *prefix, const char *more)
{
    const char *options = getenv("QUAY_GCS_OPTIONS");
    return xasprintf("[store t]\nbackend = gcs\nendpoint_url = %s\nbucket = %s\nbase_path = %s\n%s%s\n",
                     need("QUAY_GCS_ENDPOINT"), need("QUAY_GCS_BUCKET"), prefix, more,
                     options ? options : "anonymous = yes\n");
}

static void run_suite(const char *label, const char *prefix, const char *more)
{
    CLEANUP_FREE char *text = section(prefix, more);
    suite_over(label, text);
}

static void whole_bucket(void)
{
    run_suite("gcs", "", "");
}

static void below_a_prefix(void)
{
    run_suite("gcs with base_path", "a prefix/with+odd&chars", "");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("readonly", ""),
                      *ro = section("readonly", "read_only = yes\n");
    suite_read_only("gcs, readonly", text, ro);
}

/* More parts than one compose takes: they are composed in groups, in their order. */
static void many_parts(void)
{
    CLEANUP_FREE char *text = section("many-parts", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "gcs, many parts"}, *s = &suite;
    enum { N = 70 };
    struct store_part parts[N];
    struct upload_req req = {.key = "object"};
    char *id = NULL, got[N + 1];
    struct attr made = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    for (unsigned i = 0; i < N; i++) {
        char c = (char)('0' + i % 50);
        struct source_mem src = source_mem(&c, 1);
        parts[i] = (struct store_part){.number = i + 1, .offset = i, .size = 1};
        OK(store_upload_part(s->store, &s->op, "object", id, &src.base, &parts[i]));
    }
    OK(store_upload_finish(s->store, &s->op, "object", id, parts, N, NULL, &made));
    CHECK_INT(made.size, N);
    attr_done(&made);
    CHECK_INT(read_at(s, "object", NULL, 0, got, sizeof(got)), N);
    for (unsigned i = 0; i < N; i++)
        CHECK_INT(got[i], '0' + i % 50);
    struct list_page all = LIST_PAGE_INIT;
    list_all(s, "", true, 0, &all);
    CHECK_INT(all.count, 1); /* nothing of the upload is to be seen */
    list_page_done(&all);
    OK(store_remove(s->store, &s->op, "object", NULL));
    free(id);
    suite_done(s);
}

/* QUAY_GCS_VERSIONED_ENDPOINT: whose bucket keeps versions. */
static void versioned_bucket(void)
{
    const char *endpoint = getenv("QUAY_GCS_VERSIONED_ENDPOINT");
    CHECK(endpoint != NULL);
    CLEANUP_FREE char *text = xasprintf("[store t]\nbackend = gcs\nendpoint_url = %s\nanonymous = yes\n"
                                        "bucket = %s\nbase_path = odd prefix\nretries = 12\nretry_delay = 1ms\n"
                                        "fault = every=10,errno=EIO,retry=safe\n",
                                        endpoint, getenv("QUAY_GCS_BUCKET"));
    struct suite s;
    suite_init(&s, "gcs, versioned", open_store(text, NULL));
    suite_versions(&s);
    suite_done(&s);
}

static void between(void)
{
    CLEANUP_FREE char *one = section("one place", ""), *two = section("another+place", "retries = 4\n");
    suite_between("gcs, between", one, two);
}

int main(void)
{
    http_global_init();
    RUN(whole_bucket);
    RUN(below_a_prefix);
    RUN(refusals);
    RUN(between);
    RUN(many_parts);
    RUN(versioned_bucket);
    return t_done();
}
