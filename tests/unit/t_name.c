/* SPDX-License-Identifier: MIT
 * t_name.c: the escape scheme leads back to exactly the key; paths and globs. */
#include "base/name.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/strmap.h"
#include "tests/unit/t.h"

static void check(const char *segment, bool shadow, const char *want)
{
    char name[256], back[256];
    name_encode(segment, strlen(segment), shadow, name);
    CHECK_STR(name, want);
    CHECK_INT(name_decode(name, back), shadow ? NAME_SHADOW : NAME_PLAIN);
    CHECK_STR(back, segment);
}

static void test_table(void)
{
    check("", false, "%2F");
    check(".", false, "%2E");
    check("..", false, "%2E%2E");
    check("a", true, "a%2F");
    check("", true, "%2F%2F");
    check(".", true, "%2E%2F");
    check("..", true, "%2E%2E%2F");
    check("...", false, "...");
    check(".a", false, ".a");
    check("50% off", false, "50% off");
    check("a%20b", false, "a%20b");
    check("a%25b", false, "a%25b");
    check("%2F", false, "%252F");
    check("%252F", false, "%25252F");
    check("%2E%2E", false, "%252E%2E");
    check("%2E", false, "%252E");
    check("a%2F", false, "a%252F");
    check("a%2F", true, "a%2F%2F");
    check("a%b%2F", false, "a%25b%2F");
    check("x%~0123456789abcdef", false, "x%25~0123456789abcdef");
    check("x%~0123456789ABCDEF", false, "x%~0123456789ABCDEF");
    check("\xC3\xA4\xFF", false, "\xC3\xA4\xFF");
}

static void check_long(const char *segment, size_t len, bool shadow, size_t want_prefix)
{
    char name[256], back[256], again[256];
    name_encode(segment, len, shadow, name);
    CHECK(strlen(name) <= 255 && strlen(name) == want_prefix + 18);
    CHECK_INT(name_decode(name, back), NAME_LONG);
    CHECK_INT(strlen(back), want_prefix);
    CHECK(memcmp(back, segment, want_prefix) == 0);
    name_encode(segment, len, shadow, again);
    CHECK_STR(again, name);
}

static void test_long(void)
{
    char s[400];
    memset(s, 'a', sizeof(s));
    check_long(s, 256, false, 237);
    check_long(s, 400, false, 237);
    check_long(s, 253, true, 237); /* with %2F it would be 256 */
    s[236] = (char)0xC3;
    s[237] = (char)0xA4;
    check_long(s, 400, false, 236);
    memcpy(s + 10, "%25", 3);
    check_long(s, 400, false, 10);
    memcpy(s + 252, "%2F", 3);
    check_long(s, 255, false, 10); /* special, and no room for its escape */
    check_long("a\0b", 3, false, 1);
    check_long("%2E", 3, true, 3);
    check_long("a%25b", 5, true, 1);
    char a[256], b[256];
    name_encode(s, 300, false, a);
    name_encode(s, 301, false, b);
    CHECK(strcmp(a, b) != 0);
    name_encode(s, 300, true, b);
    CHECK(strcmp(a, b) != 0);
    memset(s, 'a', 255);
    s[255] = '\0';
    check(s, false, s);
}

/* Segments made of the pieces that matter, so that collisions would be found. */
static size_t make_segment(char *s)
{
    static const char *const pieces[] = {"%",
                                         "2",
                                         "5",
                                         "F",
                                         "%2F",
                                         "%25",
                                         "%2E",
                                         ".",
                                         "%~",
                                         "%2",
                                         "E",
                                         "a",
                                         "0123456789abcdef",
                                         "~",
                                         "\xC3\xA4"};
    size_t len = 0;
    unsigned n = random_below(7);
    for (unsigned i = 0; i < n; i++) {
        const char *p = pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))];
        memcpy(s + len, p, strlen(p));
        len += strlen(p);
    }
    if (random_below(8) == 0) {
        size_t pad = 225 + random_below(60);
        memset(s + len, 'x', pad);
        len += pad;
        if (random_below(2)) {
            memcpy(s + len, "%2F", 3);
            len += 3;
        }
    }
    s[len] = '\0';
    return len;
}

static void test_reversible(void)
{
    struct strmap seen = STRMAP_INIT; /* name -> "P" or "S" and the segment */
    char segment[512], name[256], back[256];
    for (int i = 0; i < 60000; i++) {
        size_t len = make_segment(segment);
        bool shadow = random_below(2);
        name_encode(segment, len, shadow, name);
        CHECK(*name && strlen(name) <= 255 && !strchr(name, '/'));
        CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
        enum name_form form = name_decode(name, back);
        if (form != NAME_LONG) {
            CHECK_STR(back, segment);
            CHECK(shadow == (form == NAME_SHADOW));
        } else {
            CHECK(strncmp(back, segment, strlen(back)) == 0);
        }
        char *mine = xasprintf("%c%s", shadow ? 'S' : 'P', segment);
        char *other = strmap_get(&seen, name);
        if (other) {
            CHECK_STR(mine, other); /* one name is one segment */
            free(mine);
        } else {
            strmap_put(&seen, name, mine);
        }
    }
    STRMAP_EACH(&seen, it)
    free(it->value);
    strmap_done(&seen);
}

static void test_decode_anything(void)
{
    char name[256], back[256];
    for (int i = 0; i < 30000; i++) {
        size_t n = random_below(256);
        for (size_t k = 0; k < n; k++)
            name[k] = "%25FE~.a0"[random_below(9)];
        name[n] = '\0';
        (void)name_decode(name, back);
        CHECK(strlen(back) <= 255);
    }
}

static char *replaced(char *old, char *new)
{
    free(old);
    return new;
}

static void test_paths(void)
{
    CHECK(path_is_inside("") && path_is_inside("a") && path_is_inside("a/b.c/..d"));
    CHECK(!path_is_inside("/a") && !path_is_inside("a//b") && !path_is_inside("a/"));
    CHECK(!path_is_inside("..") && !path_is_inside("a/../b") && !path_is_inside("a/."));
    static const char *const joins[][3] = {
        {"a", "b", "a/b"}, {"", "b", "b"}, {"a", "", "a"}, {"", "", ""}, {"a/", "b", "a/b"}};
    for (size_t i = 0; i < sizeof(joins) / sizeof(joins[0]); i++) {
        char *s = path_join(joins[i][0], joins[i][1]);
        CHECK_STR(s, joins[i][2]);
        free(s);
    }
    size_t n;
    CHECK_STR(path_base("a/b/c", &n), "c");
    CHECK_INT(n, 3);
    CHECK_STR(path_base("c", &n), "c");
    CHECK_INT(n, 0);
    CHECK_STR(path_base("/c", &n), "c");
    CHECK_INT(n, 1);
}

static void check_tree(const char *dir, const char *segment, const char *want, const char *prefix)
{
    size_t n;
    CLEANUP_FREE char *path = path_child(dir, segment);
    CHECK_STR(path, want);
    CHECK_STR(path_base(path, &n), segment);
    CHECK_INT(n, strlen(dir));
    CLEANUP_FREE char *parent = path_parent(path);
    CHECK_STR(parent, dir);
    CHECK(path_below(path, dir) && !path_below(dir, path) && !path_below(path, path));
    CHECK_STR(path_rest(path, dir), segment);
    CLEANUP_FREE char *as_prefix = path_dir_prefix(path);
    CHECK_STR(as_prefix, prefix);
    CLEANUP_FREE char *back = path_of_prefix(as_prefix);
    CHECK_STR(back, path);
    CHECK(path_is_unnamed(path) == !*segment);
}

static void test_trees(void)
{
    check_tree("", "a", "a", "a/");
    check_tree("a", "b", "a/b", "a/b/");
    check_tree("", "", "/", "/");
    check_tree("/", "", "//", "//");
    check_tree("/", "x", "/x", "/x/");
    check_tree("//", "x", "//x", "//x/");
    check_tree("a", "", "a/", "a//");
    check_tree("a/", "", "a//", "a///");
    check_tree("a/", "b", "a//b", "a//b/");
    check_tree("/x", "", "/x/", "/x//");
    check_tree("", "..", "..", "../");
    CHECK(!path_below("ab", "a") && !path_below("a", "/") && !path_below("a", "a/"));
    CHECK(path_below("a//b", "a") && path_below("//x", "/") && path_below("//", "") && !path_below("", ""));
    CHECK(path_is_slashes("") && path_is_slashes("//") && !path_is_slashes("/a") && !path_is_slashes("a/"));
}

/* Every path of few segments, from every directory above it to every other directory. */
static void test_moves(void)
{
    static const char *const names[] = {"", "a"};
    for (unsigned bits = 0; bits < 1u << 8; bits++) {
        char *from = xstrdup(""), *to = xstrdup(""), *path, *want;
        unsigned b = bits;
        for (unsigned i = b & 1; i < 3; i++, b >>= 1)
            from = replaced(from, path_child(from, names[b >> 1 & 1]));
        for (unsigned i = b & 1; i < 3; i++, b >>= 1)
            to = replaced(to, path_child(to, names[b >> 1 & 1]));
        path = xstrdup(from), want = xstrdup(to);
        for (unsigned i = 0; i < 2; i++, b >>= 1) {
            path = replaced(path, path_child(path, names[b & 1]));
            want = replaced(want, path_child(want, names[b & 1]));
        }
        CHECK(path_below(path, from));
        CLEANUP_FREE char *moved = path_child(to, path_rest(path, from));
        CHECK_STR(moved, want);
        free(from), free(to), free(path), free(want);
    }
}

static void test_globs(void)
{
    CHECK(path_glob("*.csv", "a.csv") && !path_glob("*.csv", "d/a.csv"));
    CHECK(path_glob("d/*/x?[0-9]", "d/e/xy7") && !path_glob("d/*/x", "d/e/f/x"));
    CHECK(path_glob("**", "a") && path_glob("**", "a/b/c") && path_glob("**", ""));
    CHECK(path_glob("**/*.csv", "a.csv") && path_glob("**/*.csv", "d/e/a.csv"));
    CHECK(path_glob("d/**/x", "d/x") && path_glob("d/**/x", "d/e/f/x"));
    CHECK(!path_glob("d/**/x", "d/e/f/y") && !path_glob("d/**/x", "c/x"));
    CHECK(path_glob("a/**", "a/b/c") && !path_glob("a/**", "b/c"));
    CHECK(path_glob("**/b/**/d", "a/b/b/c/d") && !path_glob("**/b/**/d", "a/c/d"));
    CHECK(path_glob("a/**/b/*/c", "a/x/b/y/b/z/c"));
    CHECK(path_glob("a", "a") && !path_glob("a", "a/b") && !path_glob("a/b", "a"));
    CHECK(path_glob("\\*", "*") && !path_glob("\\*", "a"));
    CHECK_INT(path_glob_fixed("a/b/*.csv"), 4);
    CHECK_INT(path_glob_fixed("a/b*/c"), 2);
    CHECK_INT(path_glob_fixed("*.csv"), 0);
    CHECK_INT(path_glob_fixed("a/b"), 2);
}

int main(void)
{
    RUN(test_table);
    RUN(test_long);
    RUN(test_reversible);
    RUN(test_decode_anything);
    RUN(test_paths);
    RUN(test_trees);
    RUN(test_moves);
    RUN(test_globs);
    return t_done();
}
