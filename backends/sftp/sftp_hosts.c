/* SPDX-License-Identifier: MIT
 * sftp_hosts.c: see sftp_hosts.h. Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". */
#include "backends/sftp/sftp_hosts.h"

#include "base/cleanup.h"
#include "base/crypto.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct line {
    char *marker, *names, *type, *key; /* within the copy of the line; marker may be NULL */
};

/* The next word of *rest, or NULL. */
static char *word(char **rest)
{
    char *w;
    do
        w = strsep(rest, " \t");
    while (w && !*w);
    return w;
}

static bool parse_line(char *text, struct line *ret)
{
    char *rest = text;
    *ret = (struct line){0};
    char *w = word(&rest);
    if (!w || *w == '#')
        return false;
    if (*w == '@') {
        ret->marker = w;
        w = word(&rest);
    }
    ret->names = w;
    ret->type = word(&rest);
    ret->key = word(&rest);
    return ret->key != NULL;
}

/* Does `name` match a pattern of * and ?, without regard to case? */
static bool matches(const char *pattern, const char *name)
{
    const char *star = NULL, *back = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            back = name;
        } else if (*pattern == '?' ||
                   tolower((unsigned char)*pattern) == tolower((unsigned char)*name)) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

/* |1|base64 of the salt|base64 of HMAC-SHA1(salt, name) */
static bool matches_hashed(const char *hashed, const char *name)
{
    CLEANUP_BUF struct buf salt = BUF_INIT, want = BUF_INIT;
    uint8_t sum[SHA1_LEN];
    const char *second = strncmp(hashed, "|1|", 3) == 0 ? strchr(hashed + 3, '|') : NULL;
    if (!second || !base64_decode(&salt, hashed + 3, (size_t)(second - hashed - 3)) ||
        !base64_decode(&want, second + 1, strlen(second + 1)) || want.len != sizeof(sum))
        return false;
    hmac_sha1(buf_str(&salt), salt.len, name, strlen(name), sum);
    return memcmp(sum, want.data, sizeof(sum)) == 0;
}

static bool is_for(char *names, const char *name)
{
    if (names[0] == '|')
        return matches_hashed(names, name);
    bool found = false;
    for (char *p; (p = strsep(&names, ",")) != NULL;) {
        bool excludes = *p == '!';
        if (!matches(p + excludes, name))
            continue;
        if (excludes)
            return false;
        found = true;
    }
    return found;
}

static char *name_of(const char *host, unsigned port)
{
    char *name = port == 22 ? xstrdup(host) : xasprintf("[%s]:%u", host, port);
    for (char *p = name; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return name;
}

/* The lines of a text, one after the other: malloc'd, NULL at the end. */
static char *next_line(const char **text)
{
    if (!**text)
        return NULL;
    size_t n = strcspn(*text, "\n");
    char *line = xstrndup(*text, n);
    if (n && line[n - 1] == '\r')
        line[n - 1] = '\0';
    *text += n + ((*text)[n] == '\n');
    return line;
}

/* The type that a key on the wire begins with: a string with its length before it. */
static bool is_type(const char *type, const uint8_t *key, size_t len)
{
    size_t n = strlen(type);
    return len >= 4 + n && key[0] == 0 && key[1] == 0 && key[2] == n >> 8 && key[3] == (n & 0xff) &&
           memcmp(key + 4, type, n) == 0;
}

static void judge(struct line *l, unsigned number, const uint8_t *key, size_t len,
                  struct hosts_verdict *v)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    bool same =
        base64_decode(&b, l->key, strlen(l->key)) && b.len == len && memcmp(b.data, key, len) == 0;
    bool revoked = l->marker && strcasecmp(l->marker, "@revoked") == 0;
    enum hosts_found found = HOSTS_UNKNOWN;
    if (l->marker && (!revoked || !same))
        return;
    if (revoked)
        found = HOSTS_REVOKED;
    else if (same)
        found = HOSTS_KNOWN;
    else if (is_type(l->type, key, len))
        found = HOSTS_CHANGED;
    else
        v->other_types = true;
    if (found > v->found) {
        v->found = found;
        v->line = number;
    }
}

void hosts_check(const char *text, const char *host, unsigned port, const void *key, size_t key_len,
                 struct hosts_verdict *v)
{
    CLEANUP_FREE char *name = name_of(host, port);
    unsigned number = 1;
    for (char *copy; (copy = next_line(&text)) != NULL; number++) {
        struct line l;
        if (parse_line(copy, &l) && is_for(l.names, name))
            judge(&l, number, key, key_len, v);
        free(copy);
    }
}

static bool is_listed(const char *list, const char *type)
{
    size_t n = strlen(type);
    for (const char *p = list; (p = strstr(p, type)) != NULL; p += n)
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

void hosts_types(const char *text, const char *host, unsigned port, struct buf *list)
{
    CLEANUP_FREE char *name = name_of(host, port);
    for (char *copy; (copy = next_line(&text)) != NULL;) {
        struct line l;
        if (parse_line(copy, &l) && !l.marker && is_for(l.names, name) && !strchr(l.type, ',') &&
            !is_listed(buf_str(list), l.type))
            buf_addf(list, "%s%s", list->len ? "," : "", l.type);
        free(copy);
    }
}
