/* SPDX-License-Identifier: MIT
 * Cloud Storage: resources and listings in JSON, also hostile ones; key files; the signed assertion. */
#include "backends/gcs/gcs.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "tests/unit/gcs_key.h"
#include "tests/unit/t.h"

#include <errno.h>

#define ITEM(more)                                                                                 \
    "{\"name\":\"d/f\",\"generation\":\"17\",\"size\":\"5\",\"timeCreated\":"                      \
    "\"2026-11-21T10:00:00.5Z\"" more "}"

static int list_of(const char *text, struct flat_result *r)
{
    return gcs_json_list(text, strlen(text), r);
}

static void test_listing(void)
{
    struct flat_result r = {0};
    CHECK_INT(list_of("{\"items\":[" ITEM(",\"contentType\":\"text/csv\",\"metadata\":{\"mode\":\"33188\","
                                          "\"Owner\":\"x\",\"odd\":5}") "],\"prefixes\":[\"d/e/\"],"
                      "\"nextPageToken\":\"t\"}", &r), 0);
    CHECK_INT(r.n, 2);
    CHECK_STR(r.v[0].object, "d/f");
    CHECK_STR(r.v[0].etag, "17");
    CHECK_INT(r.v[0].size, 5);
    CHECK_INT(r.v[0].mtime.tv_nsec, 0);
    CHECK_STR(http_headers_get(&r.v[0].meta, "x-goog-meta-mode"), "33188");
    CHECK_STR(http_headers_get(&r.v[0].meta, "x-goog-meta-owner"), "x");
    CHECK(!http_headers_get(&r.v[0].meta, "x-goog-meta-odd"));
    CHECK(r.v[1].is_prefix && r.truncated);
    CHECK_STR(r.token, "t");
    flat_result_done(&r);
    CHECK_INT(list_of("{\"kind\":\"storage#objects\"}", &r), 0);
    CHECK(r.n == 0 && !r.truncated);
    flat_result_done(&r);
}

static void test_hostile_listings(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"items\":{}}",
        "{\"items\":[1]}",
        "{\"items\":[{\"name\":\"x\",\"size\":\"1\"}]}",
        "{\"items\":[{\"name\":\"x\",\"generation\":\"1\",\"size\":1}]}",
        "{\"items\":[{\"name\":\"x\",\"generation\":\"1\",\"size\":\"-1\"}]}",
        "{\"items\":[{\"name\":\"x\",\"generation\":\"1&alt=media\",\"size\":\"1\"}]}",
        "{\"items\":[{\"name\":\"x\",\"generation\":\"1\",\"size\":\"99999999999999999999999\"}]}",
        "{\"items\":[{\"name\":\"\",\"generation\":\"1\",\"size\":\"1\"}]}",
        "{\"items\":[{\"name\":\"a\\u0000b\",\"generation\":\"1\",\"size\":\"1\"}]}",
        "{\"prefixes\":[\"\"]}",
        "{\"prefixes\":[null]}",
        "{\"prefixes\":\"a/\"}",
    };
    struct flat_result r = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_INT(list_of(bad[i], &r), -EBADMSG);
    CHECK(r.n == 0 && !r.v);
}

static void test_paging(void)
{
    struct op op;
    struct flat_result l = {.truncated = true, .token = xstrdup("t")};
    op_init(&op, "test", 0);
    CHECK_INT(flat_check_paging(&op, NULL, &l), 0);
    CHECK_INT(flat_check_paging(&op, "s", &l), 0);
    CHECK_INT(flat_check_paging(&op, "t", &l), -EIO); /* for ever */
    flat_result_done(&l);
}

static void test_metadata(void)
{
    struct attr a = {.kind = ATTR_SYMLINK, .known = ATTR_HAS_UID, .uid = 7}, b;
    struct err e = ERR_INIT;
    struct gcs_object got = {0};
    json_t *o = json_loads(ITEM(), 0, NULL);
    attr_xattr_set(&a, "user.meta.owner", "me", 2);
    attr_xattr_set(&a, "user.bin", "\0\xff", 2);
    CHECK_INT(gcs_json_meta(&a, false, &e, o), 0);
    CHECK_INT(gcs_json_object(o, true, &got), 0);
    CHECK_INT(got.attr.kind, ATTR_SYMLINK);
    CHECK_INT(got.attr.uid, 7);
    CHECK_INT(got.attr.n_xattrs, 2);
    CHECK(attr_xattr(&got.attr, "user.bin")->size == 2);
    gcs_object_done(&got);
    CHECK_INT(gcs_json_object(o, false, &got), 0); /* posix = no */
    CHECK(got.attr.kind == ATTR_FILE && got.attr.n_xattrs == 0);
    gcs_object_done(&got);
    json_decref(o);
    attr_done(&a);

    char *large = xmalloc(9000);
    memset(large, 'x', 9000);
    b = (struct attr){.kind = ATTR_FILE};
    attr_xattr_set(&b, "user.large", large, 9000);
    o = json_object();
    CHECK_INT(gcs_json_meta(&b, false, &e, o), -E2BIG);
    json_decref(o);
    attr_done(&b);
    free(large);
}

static int creds(const char *text, struct gcs_creds *ret, struct err *e)
{
    return gcs_creds_parse(text, strlen(text), e, ret);
}

static void test_key_files(void)
{
    struct gcs_creds c = {0};
    struct err e = ERR_INIT;
    CHECK_INT(creds("{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\","
                    "\"refresh_token\":\"r\"}", &c, &e), 0);
    CHECK_INT(c.kind, GCS_USER);
    CHECK_STR(c.token_uri, "https://oauth2.googleapis.com/token");
    gcs_creds_done(&c);
    CHECK_INT(creds("{\"type\":\"service_account\",\"client_email\":\"a@b\"}", &c, &e), -EINVAL);
    CHECK_INT(creds("{\"type\":\"external_account\"}", &c, &e), -EINVAL);
    CHECK(strstr(e.text, "external_account"));
    CHECK_INT(creds("not json", &c, &e), -EINVAL);
    /* Secrets go to a token endpoint only when nobody can read them on the way. */
    CHECK_INT(creds("{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\","
                    "\"refresh_token\":\"r\",\"token_uri\":\"http://example.com/token\"}", &c, &e), -EINVAL);
    CHECK(strstr(e.text, "not https"));
    CHECK(!c.token_uri && !c.refresh_token);
}

static json_t *decoded(const char *s, size_t len)
{
    struct buf b64 = BUF_INIT, text = BUF_INIT;
    for (size_t i = 0; i < len; i++)
        buf_addc(&b64, s[i] == '-' ? '+' : s[i] == '_' ? '/' : s[i]);
    while (b64.len % 4)
        buf_addc(&b64, '=');
    CHECK(base64_decode(&text, b64.data, b64.len));
    json_t *o = json_loads(text.data, 0, NULL);
    buf_done(&b64);
    buf_done(&text);
    return o;
}

static void test_assertion(void)
{
    struct gcs_creds c = {.kind = GCS_SERVICE_ACCOUNT,
                          .email = (char[]){"a@b"},
                          .private_key = xstrdup(gcs_test_key),
                          .token_uri = (char[]){"https://t/token"}};
    struct err e = ERR_INIT;
    struct buf jwt = BUF_INIT, sig = BUF_INIT, want = BUF_INIT;
    CHECK_INT(gcs_jwt(&c, 1700000000, &e, &jwt), 0);
    char *dot = strchr(jwt.data, '.'), *last = strrchr(jwt.data, '.');
    CHECK(dot && last && dot != last);
    json_t *head = decoded(jwt.data, (size_t)(dot - jwt.data));
    json_t *claims = decoded(dot + 1, (size_t)(last - dot - 1));
    CHECK_STR(json_string_value(json_object_get(head, "alg")), "RS256");
    CHECK_STR(json_string_value(json_object_get(claims, "iss")), "a@b");
    CHECK_STR(json_string_value(json_object_get(claims, "aud")), "https://t/token");
    CHECK_INT(json_integer_value(json_object_get(claims, "exp")), 1700003600);
    CHECK_INT(rsa_sha256_sign(gcs_test_key, jwt.data, (size_t)(last - jwt.data), &sig), 0);
    CHECK_INT(sig.len, 256);
    base64url_add(&want, sig.data, sig.len);
    CHECK_STR(last + 1, want.data);
    CHECK(!strpbrk(jwt.data, "+/="));
    json_decref(head);
    json_decref(claims);
    buf_done(&jwt);
    buf_done(&sig);
    buf_done(&want);
    free(c.private_key);
}

int main(void)
{
    RUN(test_listing);
    RUN(test_hostile_listings);
    RUN(test_paging);
    RUN(test_metadata);
    RUN(test_key_files);
    RUN(test_assertion);
    return t_done();
}
