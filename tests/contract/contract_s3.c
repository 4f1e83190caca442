/* SPDX-License-Identifier: MIT
 * contract_s3.c: the suite over backend = s3, against the server of QUAY_S3_ENDPOINT,
 * QUAY_S3_ACCESS_KEY, QUAY_S3_SECRET_KEY, QUAY_S3_BUCKET and QUAY_S3_VERSIONED_BUCKET (which exist). Without them it fails:
 * ctest -L contract_s3 is for where there is a server; pytest runs it with MinIO.
 * QUAY_S3_OPTIONS may add lines to the section. */
#include "tests/contract/suite.h"

#include "backends/http.h"

static char *section(const char *prefix, const char *more)
{
    const char *options = getenv("QUAY_S3_OPTIONS");
    return xasprintf("[store t]\nbackend = s3\nendpoint_url = %s\naccess_key_id = %s\n"
                     "secret_access_key = %s\nbucket = %s\nbase_path = %s\n%s%s\n",
                     need("QUAY_S3_ENDPOINT"), need("QUAY_S3_ACCESS_KEY"),
                     need("QUAY_S3_SECRET_KEY"), need("QUAY_S3_BUCKET"), prefix, more,
                     options ? options : "");
}

static void run_suite(const char *label, const char *prefix, const char *more)
{
    CLEANUP_FREE char *text = section(prefix, more);
    suite_over(label, text);
}

static void whole_bucket(void)
{
    run_suite("s3", "", "");
}

static void below_a_prefix(void)
{
    run_suite("s3 with base_path", "a prefix/with+odd&chars", "");
}

static void with_trouble(void)
{
    run_suite("s3, fault", "fault",
              "retries = 12\nretry_delay = 1ms\n"
              "fault = every=10,errno=EIO,retry=safe; "
              "op=remove,key=*/dirs/**,every=3,errno=EIO,lost=yes\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("readonly", ""),
                      *ro = section("readonly", "read_only = yes\n");
    suite_read_only("s3, readonly", text, ro);
}

/* QUAY_S3_VERSIONED_BUCKET: one that keeps versions. */
static void versioned_bucket(void)
{
    CLEANUP_FREE char *more = xasprintf("uri = s3://%s/odd prefix\nretries = 12\nretry_delay = 1ms\n"
                                        "fault = every=10,errno=EIO,retry=safe\n",
                                        need("QUAY_S3_VERSIONED_BUCKET"));
    CLEANUP_FREE char *text = section("", more);
    char *bucket = strstr(text, "bucket = "), *end = strchr(bucket, '\n'); /* the uri names it */
    memset(bucket, ' ', (size_t)(end - bucket));
    struct suite s;
    suite_init(&s, "s3, versioned", open_store(text, NULL));
    suite_versions(&s);
    suite_done(&s);
}

static void unversioned_bucket(void)
{
    CLEANUP_FREE char *text = section("none", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "s3"}, *s = &suite;
    struct version_page page = VERSION_PAGE_INIT;
    op_init(&s->op, "suite", 0);
    put_text(s, "object", "content", NULL);
    FAILS(store_list_versions(s->store, &s->op, "object", NULL, 0, &page), ENOTSUP);
    FAILS(stat_key(s, "object@versions", &(struct attr){0}), ENOENT);
    OK(store_remove(s->store, &s->op, "object", NULL));
    suite_done(s);
}

static void between(void)
{
    CLEANUP_FREE char *one = section("one place", ""), *two = section("another+place", "retries = 4\n");
    suite_between("s3, between", one, two);
}

int main(void)
{
    http_global_init();
    RUN(whole_bucket);
    RUN(below_a_prefix);
    RUN(with_trouble);
    RUN(refusals);
    RUN(between);
    RUN(versioned_bucket);
    RUN(unversioned_bucket);
    return t_done();
}
