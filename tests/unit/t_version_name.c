/* SPDX-License-Identifier: MIT
 * t_version_name.c: names of older versions, and what is not one. */
#include "backends/versions.h"

#include "base/cleanup.h"
#include "tests/unit/t.h"

static const struct timespec at = {.tv_sec = 1795309323, .tv_nsec = 456789012};

static void there_and_back(const char *object, const char *id, const char *want)
{
    CLEANUP_FREE char *name = version_name(object, at, id), *back = NULL;
    struct timespec t = {0};
    CHECK_STR(name, want);
    CHECK(version_name_parse(object, name, &t, &back));
    CHECK_STR(back, id);
    CHECK_INT(t.tv_sec, at.tv_sec);
    CHECK_INT(t.tv_nsec, 456000000);
}

static void test_names(void)
{
    there_and_back("f", "3sL4k", "2026-11-22T01:02:03.456Z-3sL4k");
    there_and_back("d.x/f.csv", "null", "2026-11-22T01:02:03.456Z-null.csv");
    there_and_back("d.x/f", "a.csv", "2026-11-22T01:02:03.456Z-a.csv");
    there_and_back("f.csv", "a.csv", "2026-11-22T01:02:03.456Z-a.csv.csv");
    there_and_back(".csv", "1", "2026-11-22T01:02:03.456Z-1");
    there_and_back("f.", "1", "2026-11-22T01:02:03.456Z-1");
    there_and_back("f.a b", "1", "2026-11-22T01:02:03.456Z-1");
    there_and_back("f", "a/b%\xC3\xA9 -", "2026-11-22T01:02:03.456Z-a%2Fb%25%C3%A9%20-");
}

static void test_what_is_no_name(void)
{
    static const char *const bad[] = {
        "",       "x",       "2026-11-22T01:02:03.456Z-",   "2026-11-22T01:02:03.456Z-.csv",
        "2026-11-22T01:02:03.456Z",  "2026-11-22T01:02:03.456Z-id", "2026-11-22T01:02:03Z-id.csv",
        "2026-13-22T01:02:03.456Z-id.csv",  "2026-11-22T01:02:03.456Z-%69d.csv", "2026-11-22T01:02:03.456Z_id.csv",
        "2026-11-22T01:02:03.456Z-a%2fb.csv", "2026-11-22T01:02:03.456Z-a%zz.csv",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *id = NULL;
        struct timespec t;
        CHECK(!version_name_parse("f.csv", bad[i], &t, &id));
    }
}

static void test_paths(void)
{
    struct version_path p;
    CHECK(version_path_parse("d/f@versions", &p));
    CHECK_STR(p.object, "d/f");
    CHECK_STR(p.dir, "d/f@versions");
    CHECK(!p.name);
    version_path_done(&p);
    CHECK(version_path_parse("f@versions/x@y", &p));
    CHECK_STR(p.object, "f");
    CHECK_STR(p.name, "x@y");
    version_path_done(&p);
    static const char *const not_one[] = {"", "f", "@versions", "d/@versions", "d/@versions/x", "f@versions/a/b",
                                          "f@version", "f@versionsx"};
    for (size_t i = 0; i < ARRAY_LEN(not_one); i++)
        CHECK(!version_path_is(not_one[i]));
    CHECK(version_is_hidden("d/f@versions") && !version_is_hidden("d/f@versions/x") && !version_is_hidden("@versions"));
}

static void test_kept_versions(void)
{
    char version[ATTR_VERSION_MAX], etag[ATTR_VERSION_MAX], *id = NULL;
    CHECK(kept_version_make("a b/@", "d41d-2", version));
    CHECK_STR(version, "@a%20b%2F%40 d41d-2");
    CHECK(kept_version_split(version, &id, etag));
    CHECK_STR(id, "a b/@");
    CHECK_STR(etag, "d41d-2");
    free(id);
    CHECK(!kept_version_split("d41d", &id, etag));
    CHECK(!kept_version_split("", &id, etag));
    CHECK(!kept_version_split(NULL, &id, etag));
    char longer[ATTR_VERSION_MAX + 1];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    CHECK(!kept_version_make(longer, "", version));
}

int main(void)
{
    RUN(test_names);
    RUN(test_what_is_no_name);
    RUN(test_paths);
    RUN(test_kept_versions);
    return t_done();
}
