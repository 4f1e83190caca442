/* SPDX-License-Identifier: MIT
 * contract_http.c: what the suite has for stores that are read only, over backend = http. The server of
 * QUAY_HTTP_URL serves the directory QUAY_HTTP_ROOT, into which backend = local writes. Without them it
 * fails: ctest -L contract_http is for where there is a server; pytest runs it with nginx and others. */
#include "tests/contract/suite.h"

#include "backends/http.h"

static struct store *open_http(const char *more)
{
    CLEANUP_FREE char *text =
        xasprintf("[store t]\nuri = %s\nretry_delay = 1ms\n%s\n", need("QUAY_HTTP_URL"), more);
    return open_store(text, NULL);
}

static struct store *open_writer(void)
{
    CLEANUP_FREE char *text =
        xasprintf("[store t]\nbackend = local\nbase_path = %s\n", need("QUAY_HTTP_ROOT"));
    return open_store(text, NULL);
}

static void read_all(const char *label, const char *more)
{
    struct suite w, suite, *s = &suite;
    suite_init(&w, "writer", open_writer()); /* makes the directory of this run */
    suite = (struct suite){.store = open_http(more), .label = label};
    memcpy(s->run, w.run, sizeof(s->run));
    op_init(&s->op, "suite", 0);
    suite_reading(s, w.store);
    suite_done(s);
    suite_done(&w);
}

static void plain(void)
{
    read_all("http", "");
}

static void with_trouble(void)
{
    read_all("http, fault", "retries = 12\nfault = every=7,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    struct suite w = {.store = open_writer(), .label = "writer"}, *s = &w;
    op_init(&s->op, "suite", 0);
    int r = store_make_dir(s->store, &s->op, "refusals", NULL);
    if (r != -EEXIST)
        OK(r);
    snprintf(s->prefix, sizeof(s->prefix), "refusals/");
    put_text(s, "object", "content", NULL);
    CLEANUP_FREE char *uri = xasprintf("%srefusals", need("QUAY_HTTP_URL"));
    CLEANUP_FREE char *text = xasprintf("[store t]\nuri = %s\n", uri);
    struct suite ro = {.store = open_store(text, NULL), .label = "http"};
    op_init(&ro.op, "suite", 0);
    suite_refusals(&ro, "object", "content");
    suite_done(&ro);
    suite_done(&w);
}

int main(void)
{
    http_global_init();
    RUN(plain);
    RUN(with_trouble);
    RUN(refusals);
    return t_done();
}
