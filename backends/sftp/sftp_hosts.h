/* SPDX-License-Identifier: MIT
 * sftp_hosts.h: what known_hosts files say about a server's host key. Pure: text in, verdict out.
 *
 * The format is sshd(8)'s: `[@marker] names type base64 [comment]` a line; names is a
 * comma-separated list of patterns (* ? and a leading ! that excludes) or one hashed name
 * |1|salt|hmac; a port other than 22 is part of the name: [host]:port. Lines of @cert-authority say
 * nothing here (host certificates are not spoken); a key of a @revoked line is refused. What cannot
 * be understood is no entry.
 *
 *     struct hosts_verdict v = HOSTS_VERDICT_INIT;
 *     hosts_check(text, "lake.example", 22, key, len, &v);      // once for each file
 *     v.found: revoked > known > changed > unknown
 *     hosts_types(text, host, port, list)    which key types to ask the server for first
 * Threads: any. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_HOSTS_H
#define QUAY_BACKENDS_SFTP_SFTP_HOSTS_H

#include "base/buf.h"

#include <stdbool.h>

enum hosts_found {
    HOSTS_UNKNOWN = 0, /* no line for this host, or only of other key types */
    HOSTS_CHANGED,     /* a line for this host with another key of this type */
    HOSTS_KNOWN,
    HOSTS_REVOKED
};

struct hosts_verdict {
    enum hosts_found found;
    unsigned line;    /* that says so (changed, revoked); 0 = none */
    bool other_types; /* the host has lines with keys of other types */
};

#define HOSTS_VERDICT_INIT ((struct hosts_verdict){0})

/* `key` is the public key as it is on the wire. Raises *v where this text knows more. */
void hosts_check(const char *text, const char *host, unsigned port, const void *key, size_t key_len,
                 struct hosts_verdict *v);
/* Appends the types of the host's keys ("ssh-ed25519") to `list`, separated by commas, each once.
 */
void hosts_types(const char *text, const char *host, unsigned port, struct buf *list);

#endif
