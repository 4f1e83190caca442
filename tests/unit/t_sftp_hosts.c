/* SPDX-License-Identifier: MIT
 * t_sftp_hosts.c: what known_hosts files say. The hashed line is made here by the rule of sshd(8).
 */
#include "backends/sftp/sftp_hosts.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "tests/unit/t.h"

/* A key on the wire: its type with a length, then something. */
static struct buf wire(const char *type, const char *rest)
{
    struct buf b = BUF_INIT;
    char len[4] = {0, 0, 0, (char)strlen(type)};
    buf_add(&b, len, 4);
    buf_adds(&b, type);
    buf_adds(&b, rest);
    return b;
}

static char *entry(const char *names, const char *type, const char *rest)
{
    CLEANUP_BUF struct buf key = wire(type, rest), text = BUF_INIT;
    base64_add(&text, key.data, key.len);
    return xasprintf("%s %s %s a comment\n", names, type, buf_str(&text));
}

static struct hosts_verdict ask(const char *text, const char *host, unsigned port, const char *type,
                                const char *rest)
{
    CLEANUP_BUF struct buf key = wire(type, rest);
    struct hosts_verdict v = HOSTS_VERDICT_INIT;
    hosts_check(text, host, port, key.data, key.len, &v);
    return v;
}

#define ED "ssh-ed25519"
#define EC "ecdsa-sha2-nistp256"

static void plain_names(void)
{
    CLEANUP_FREE char *a = entry("other,lake.example,10.0.0.1", ED, "one");
    CLEANUP_FREE char *text = xasprintf("# comment\n\n  \nnonsense\n%s", a);
    CHECK_INT(ask(text, "lake.example", 22, ED, "one").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "LAKE.Example", 22, ED, "one").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "10.0.0.1", 22, ED, "one").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "10.0.0.1", 2222, ED, "one").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(text, "lake.exampl", 22, ED, "one").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(text, "lake.example.org", 22, ED, "one").found, HOSTS_UNKNOWN);
    struct hosts_verdict v = ask(text, "lake.example", 22, ED, "two");
    CHECK_INT(v.found, HOSTS_CHANGED);
    CHECK_INT(v.line, 5);
    v = ask(text, "lake.example", 22, EC, "one");
    CHECK_INT(v.found, HOSTS_UNKNOWN);
    CHECK(v.other_types);
    CHECK_INT(ask("", "lake.example", 22, ED, "one").found, HOSTS_UNKNOWN);
}

/* One line of several that has the key is enough; a text without a final newline, with \r\n. */
static void several_lines(void)
{
    CLEANUP_FREE char *a = entry("h", ED, "old"), *b = entry("h", ED, "new");
    CLEANUP_FREE char *text = xasprintf("%s%s", a, b),
                      *dos = xasprintf("%.*s\r\n", (int)strlen(a) - 1, a);
    CHECK_INT(ask(text, "h", 22, ED, "new").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "h", 22, ED, "old").found, HOSTS_KNOWN);
    CHECK_INT(ask(dos, "h", 22, ED, "old").found, HOSTS_KNOWN);
    text[strlen(text) - 1] = '\0';
    CHECK_INT(ask(text, "h", 22, ED, "new").found, HOSTS_KNOWN);
}

static void patterns(void)
{
    CLEANUP_FREE char *a = entry("*.example.org,!bad.example.org", ED, "k"),
                      *b = entry("[10.0.?.*]:2222", ED, "k"), *text = xasprintf("%s%s", a, b);
    CHECK_INT(ask(text, "a.example.org", 22, ED, "k").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "a.b.example.org", 22, ED, "k").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "example.org", 22, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(text, "bad.example.org", 22, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(text, "10.0.3.77", 2222, ED, "k").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "10.0.33.77", 2222, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(text, "10.0.3.77", 22, ED, "k").found, HOSTS_UNKNOWN);
}

static void hashed(void)
{
    static const char salt[] = "0123456789abcdefghij";
    static const char name[] = "[lake.example]:2222";
    uint8_t sum[SHA1_LEN];
    CLEANUP_BUF struct buf names = BUF_INIT;
    hmac_sha1(salt, 20, name, strlen(name), sum);
    buf_adds(&names, "|1|");
    base64_add(&names, salt, 20);
    buf_addc(&names, '|');
    base64_add(&names, sum, sizeof(sum));
    CLEANUP_FREE char *text = entry(buf_str(&names), ED, "k"), *broken = entry("|1|x|y", ED, "k"),
                      *half = entry("|1|", ED, "k");
    CHECK_INT(ask(text, "Lake.example", 2222, ED, "k").found, HOSTS_KNOWN);
    CHECK_INT(ask(text, "lake.example", 2222, ED, "other").found, HOSTS_CHANGED);
    CHECK_INT(ask(text, "lake.example", 22, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(broken, "lake.example", 22, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(half, "lake.example", 22, ED, "k").found, HOSTS_UNKNOWN);
}

static void markers(void)
{
    CLEANUP_FREE char *a = entry("h", ED, "k"), *r = entry("@revoked h", ED, "k"),
                      *ca = entry("@cert-authority h", ED, "k");
    CLEANUP_FREE char *first = xasprintf("%s%s", r, a), *last = xasprintf("%s%s", a, r);
    CHECK_INT(ask(first, "h", 22, ED, "k").found, HOSTS_REVOKED);
    CHECK_INT(ask(last, "h", 22, ED, "k").found, HOSTS_REVOKED);
    CHECK_INT(ask(last, "h", 22, ED, "other").found, HOSTS_CHANGED);
    CHECK_INT(ask(ca, "h", 22, ED, "k").found, HOSTS_UNKNOWN);
    CHECK_INT(ask(ca, "h", 22, ED, "other").found, HOSTS_UNKNOWN);
}

static void types(void)
{
    CLEANUP_FREE char *a = entry("h", EC, "1"), *b = entry("h", ED, "2"), *c = entry("h", EC, "3"),
                      *d = entry("g", "ssh-rsa", "4"), *e = entry("@revoked h", "ssh-dss", "5");
    CLEANUP_FREE char *text = xasprintf("%s%s%s%s%s", a, b, c, d, e);
    CLEANUP_BUF struct buf list = BUF_INIT;
    hosts_types(text, "h", 22, &list);
    CHECK_STR(buf_str(&list), EC "," ED);
}

int main(void)
{
    RUN(plain_names);
    RUN(several_lines);
    RUN(patterns);
    RUN(hashed);
    RUN(markers);
    RUN(types);
    return t_done();
}
