/* SPDX-License-Identifier: MIT
 * t_registry.c: which class a section means, [scheme NAME], the texts of refusals, the wrappers. */
#include "backends/registry.h"

#include "base/cleanup.h"
#include "tests/unit/t.h"

static struct conf *parse(const char *text)
{
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    if (conf_parse("t.conf", text, &err, &c) < 0)
        CHECK_STR(err.text, "");
    return c;
}

/* The name of the class of [store t]. */
static const char *class_of(const char *text)
{
    struct err err = ERR_INIT;
    const struct store_class *cls = NULL;
    struct conf *c = parse(text);
    int r = registry_check(c, conf_find(c, "store", "t"), &err, &cls);
    conf_free(c);
    if (r < 0)
        CHECK_STR(err.text, text);
    return cls->name;
}

static void check_error(const char *text, const char *want)
{
    struct err err = ERR_INIT;
    const struct store_class *cls = NULL;
    struct conf *c = parse(text);
    CHECK_INT(registry_check(c, conf_find(c, "store", "t"), &err, &cls), -EINVAL);
    CHECK_STR(err.text, want);
    conf_free(c);
}

static void test_names(void)
{
    CHECK_STR(class_of("[store t]\nbackend = memory\n"), "memory");
    CHECK_STR(class_of("[store t]\nbackend_type = local\nbase_path = /tmp\n"), "local");
    CHECK_STR(class_of("[store t]\ntype = file\n"), "local");
    CHECK_STR(class_of("[store t]\nbackend = S3\nbucket = b\n"), "s3");
    CHECK_STR(class_of("[store t]\nbackend = obstore\nscheme = s3\nbucket = b\n"), "s3");
    CHECK_STR(class_of("[store t]\nbackend = obstore\nuri = s3://b/p\n"), "s3");
    CHECK_STR(class_of("[store t]\nbackend = fsspec\nprotocol = file\n"), "local");
    CHECK_STR(class_of("[store t]\nbackend = fsspec\nprotocol = memory\n"), "memory");
    CHECK_STR(class_of("[store t]\nuri = s3://b/p\n"), "s3");
    CHECK_STR(class_of("[store t]\nuri = s3a://b/p\n"), "s3");
    CHECK_STR(class_of("[store t]\nuri = file:///tmp\n"), "local");
    CHECK_STR(class_of("[store t]\nuri = ./data\n"), "local");
    CHECK_STR(class_of("[store t]\nuri = memory://\n"), "memory");
    CHECK_STR(class_of("[storage.t]\nbackend_type = memory\n"), "memory");
}

static void test_refusals(void)
{
    check_error("[store t]\nbase_path = /tmp\n",
                "t.conf:1: Configuration must specify 'backend_type'");
    check_error("[store t]\nbackend = s4\n", "t.conf:2: Unknown backend type: s4");
    check_error("[store t]\nuri = gopher://x/\n", "t.conf:2: Unknown backend type: gopher");
    check_error("[store t]\nbackend_type = fsspec\n",
                "t.conf:2: backend_type = fsspec needs 'protocol'");
    check_error("[store t]\nbackend = obstore\n",
                "t.conf:2: backend_type = obstore needs 'scheme' or 'uri'");
    check_error("[store t]\nbackend = local\nuri = s3://b\n",
                "t.conf:3: uri = s3://... is of backend 's3', not 'local'");
    check_error(
        "[store t]\nbackend = memory\nbackend_type = memory\n",
        "t.conf:3: 'backend_type' in [store t]: 'backend' on line 2 says the same, give one of "
        "them");
    check_error("[store t]\nbackend = memory\nmax_siez = 5\n",
                "t.conf:3: unknown key 'max_siez' in [store t]: did you mean 'max_size'?");
    check_error("[store t]\nbackend = memory\nretries = many\n",
                "t.conf:3: 'retries = many' in [store t]: not a whole number");
}

static const char minio[] = "[store t]\nuri = minio://bucket/prefix\nregion = eu-1\n"
                            "[scheme minio]\nbackend = s3\nendpoint = http://127.0.0.1:9000\n"
                            "region = us-9\nsecret_file = /run/secret\n";

static void test_schemes(void)
{
    struct err err = ERR_INIT;
    const struct store_class *cls = NULL;
    struct conf *c = parse(minio);
    struct conf_section *s = conf_find(c, "store", "t");
    for (unsigned i = 0; i < 2; i++) { /* again is harmless */
        CHECK_INT(registry_check(c, s, &err, &cls), 0);
        CHECK_STR(cls->name, "s3");
        CHECK_STR(conf_str(s, "uri", ""), "s3://bucket/prefix");
        CHECK_STR(conf_str(s, "endpoint_url", ""), "http://127.0.0.1:9000");
        CHECK_STR(conf_str(s, "region", ""), "eu-1"); /* the store's own wins */
        CHECK_INT(conf_line(s, "endpoint_url"), 6);   /* where it stands */
        CHECK_STR(conf_str(s, "secret_access_key_file", ""), "/run/secret");
    }
    conf_free(c);

    /* An own secret, by value, beats the scheme's file. */
    c = parse("[store t]\nuri = minio://b/\nsecret = s\n"
              "[scheme minio]\nbackend = s3\nsecret_access_key_file = /run/secret\n");
    s = conf_find(c, "store", "t");
    CHECK_INT(registry_check(c, s, &err, &cls), 0);
    CHECK(!conf_has(s, "secret_access_key_file"));
    conf_free(c);
    CHECK_STR(class_of("[store t]\nbackend = mine\n[scheme mine]\nbackend = memory\n"), "memory");
    c = parse(
        "[store t]\nuri = s3://b/\n[scheme s3]\nregion = mars\n"); /* of a class's own scheme */
    s = conf_find(c, "store", "t");
    CHECK_INT(registry_check(c, s, &err, &cls), 0);
    CHECK_STR(conf_str(s, "region", ""), "mars");
    conf_free(c);
}

static void test_bad_schemes(void)
{
    check_error("[store t]\nuri = x://b/\n[scheme x]\nbackend = memroy\n",
                "t.conf:4: Unknown backend type: memroy: did you mean 'memory'?");
    check_error("[store t]\nuri = x://b/\n[scheme x]\nregion = r\n",
                "t.conf:3: Unknown backend type: x");
    check_error("[store t]\nbackend = memory\n[scheme x]\nbackend = s3\nregoin = r\n",
                "t.conf:5: unknown key 'regoin' in [scheme x]: did you mean 'region'?");
}

static void test_wrappers(void)
{
    struct err err = ERR_INIT;
    struct stats *stats = stats_new();
    struct store *s = NULL;
    struct conf *c = parse("[store t]\nbackend = memory\nfault = op=stat,errno=EIO,nth=1\n"
                           "read_only = yes\nretries = 0\n");
    CHECK_INT(registry_open(c, conf_find(c, "store", "t"), stats, &err, &s), 0);
    conf_free(c);
    static const char *const names[] = {"metrics", "readonly", "retry", "fault", "memory"};
    struct store *layer = s;
    for (size_t i = 0; i < ARRAY_LEN(names); i++, layer = layer->next) {
        CHECK_STR(layer->cls->name, names[i]);
        CHECK_STR(layer->key, "t");
        CHECK_STR(layer->base_uri, "memory://t");
    }
    CHECK(!layer);
    CHECK(!(s->caps & CAP_WRITE));
    CHECK(s->caps & CAP_SYMLINK);

    struct op op;
    struct attr a = ATTR_INIT;
    struct store_health health = {0};
    op_init(&op, "t", 0);
    CHECK_INT(store_stat(s, &op, "x", &a), -EIO);
    CHECK(store_health(s, &health));
    CHECK_INT(health.errors_in_row, 1);
    CHECK_INT(health.code, EIO);
    CHECK_STR(health.op, "stat");
    CHECK_STR(health.text, "stat x: injected EIO");
    CHECK_INT(store_stat(s, &op, "x", &a), -ENOENT); /* an answer */
    CHECK(store_health(s, &health));
    CHECK_INT(health.errors_in_row, 0);
    CHECK(health.last_ok.tv_sec && health.last_error.tv_sec);
    CHECK_INT(stats_sum(stats, "quayfs_backend_requests_total", "status", "EIO"), 1);
    store_close(s);
    stats_free(stats);
}

static void test_table(void)
{
    for (size_t i = 0; registry_classes()[i]; i++) {
        const struct store_class *cls = registry_classes()[i];
        CHECK(registry_find(cls->name) == cls);
        CHECK(cls->summary && cls->summary[0]);
        for (size_t k = 0; k < cls->n_options; k++)
            CHECK(cls->options[k].name && (cls->options[k].help || cls->options[k].alias));
    }
    CHECK(!registry_find("nothing"));
    store_close(NULL);
}

int main(void)
{
    RUN(test_names);
    RUN(test_refusals);
    RUN(test_schemes);
    RUN(test_bad_schemes);
    RUN(test_wrappers);
    RUN(test_table);
    return t_done();
}
