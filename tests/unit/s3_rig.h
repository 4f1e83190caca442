/* SPDX-License-Identifier: MIT
 * s3_rig.h: a store of the S3 class, without wrappers, at a server whose replies are scripted (fake_http.h).
 *
 *     RIG(g, "", {.reply = OK0}, {.reply = GONE});  // more options; the replies
 *     ... calls of g.s with g.op ...; sent(&g, 0, "PUT /buck/p/k ")
 *     rig_stop(&g);
 */
#ifndef QUAY_TESTS_S3_RIG_H
#define QUAY_TESTS_S3_RIG_H

#include "backends/s3/s3.h"
#include "tests/unit/fake_http.h"

#include <errno.h>

#define SECRET "wJalrXUtnFEMI-secret"
#define CRLF2 "\r\n\r\n"
#define OK0 "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0" CRLF2
#define GONE "HTTP/1.1 404 Not Found\r\nContent-Length: 0" CRLF2
#define DONE204 "HTTP/1.1 204 No Content" CRLF2

struct rig {
    struct fake_http f;
    struct store *s;
    struct op op;
};

static inline struct store *open_store(int port, const char *more)
{
    struct conf *c = NULL;
    struct err e = ERR_INIT;
    struct store *s = NULL;
    const struct conf_option *tables[] = {s3_class.options};
    size_t counts[] = {s3_class.n_options};
    char *text = xasprintf("[store x]\nendpoint_url = http://127.0.0.1:%d\nbase_path = buck/p\n"
                           "access_key_id = AKID\nsecret_access_key = " SECRET "\n%s",
                           port, more);
    CHECK_INT(conf_parse("q.conf", text, &e, &c), 0);
    struct conf_section *sec = conf_find(c, "store", "x");
    CHECK_INT(conf_check(sec, tables, counts, 1, &e), 0);
    CHECK_INT(s3_class.open(sec, NULL, &e, &s), 0);
    conf_free(c);
    free(text);
    return s;
}

static inline void rig_start(struct rig *g, const struct fake_step *steps, int n, const char *more)
{
    memset(g, 0, sizeof(*g));
    fake_start(&g->f, steps, n);
    g->s = open_store(g->f.port, more);
    op_init(&g->op, "t", 5000);
}

static inline void rig_stop(struct rig *g)
{
    CHECK(strstr(g->op.err.text, SECRET) == NULL);
    store_close(g->s);
    fake_stop(&g->f);
}

#define RIG(g, more, ...)                                                                          \
    static const struct fake_step steps_[] = {__VA_ARGS__};                                        \
    struct rig g;                                                                                  \
    rig_start(&g, steps_, (int)(sizeof(steps_) / sizeof(steps_[0])), more)

static inline bool sent(const struct rig *g, int k, const char *text)
{
    return strcasestr(g->f.requests[k].data, text) != NULL;
}

static inline char *error_reply(const char *status, const char *headers, const char *xml)
{
    return xasprintf("HTTP/1.1 %s\r\n%sContent-Length: %zu" CRLF2 "%s", status, headers,
                     strlen(xml), xml);
}

#endif
