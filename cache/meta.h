/* SPDX-License-Identifier: MIT
 * meta.h: what is known about names: attributes, listings, names known absent; with their age.
 *
 * Two namespaces: a path (what the store calls by that name: object or directory), and with `dir` the
 * directory of that name only (it may stand beside an object). Answers come from
 *  - entries: one name, from a stat or a change of our own; META_ENTRIES at most, least recently used go
 *  - listings: complete ones, as a whole; they also know which names are absent
 * whichever is younger. After a change of our own (meta_own) the listing of the parent serves no readdir any
 * more, but still answers about the other names in it; and answers of the store that were on their way
 * meanwhile are not taken: take meta_seq() before you ask.
 *
 * Persistence: index.db, meta_attr(key, path, parent, attr, version, listed, checked) and
 * meta_list(key, path, checked). Entries with ATTR_META are kept over a restart: they give the metadata
 * of listed objects whose version is the same (a listing of S3 has none), and with `offline` they are
 * the last answer when the store does not give one. Rows read back are never "young".
 * Beside that, a process that ends well hands all it knows, with its age, to the next one (meta_warm.h), which
 * goes on as if there had been no restart: what is within the ttl is not asked for, a listing that is older is
 * asked for anew and gives the metadata of what has not changed.
 *
 * Threads: any. No call waits, but meta_open and the *_offline ones (SQLite). Ownership: attrs given are
 * copies. */
#ifndef QUAY_CACHE_META_H
#define QUAY_CACHE_META_H

#include "backends/attr.h"
#include "cache/index.h"
#include "cache/listing.h"

struct meta;

enum meta_answer { META_MISS = 0, META_THERE, META_ABSENT };

struct meta_how {
    bool offline;
    bool real_dirs;       /* directories have times that change with what is in them */
    bool hidden;          /* CAP_HIDES: a name that a listing does not have is not known absent */
    bool versions;        /* CAP_VERSION_DIRS: NAME@versions is not either, and changes with NAME */
    const char *identity; /* what the key was opened on; NULL or "": nothing is handed to the next process */
    bool ageless;         /* there is no ttl: what the process before knew is asked for again once */
};
/* `index` may be NULL: nothing is kept. */
int meta_open(struct cache_index *index, const char *key, const struct meta_how *how, struct err *err,
              struct meta **ret);
/* Hands what is known to the next process. NULL ok. */
void meta_close(struct meta *m);

/* An answer not older than max_age_ms; `need_meta`: of attributes only those with ATTR_META. *ret is
 * filled with META_THERE; *ret_age_ms (NULL ok) with any answer. */
enum meta_answer meta_get(struct meta *m, const char *path, bool dir, uint64_t max_age_ms,
                          bool need_meta, struct attr *ret, uint64_t *ret_age_ms);
/* The store said so just now, within max_age_ms, and nobody used that to open the file yet. `ret` NULL: only that the name
 * is absent is wanted; what was said of a file stays for its open. */
enum meta_answer meta_take_ticket(struct meta *m, const char *path, uint64_t max_age_ms,
                                  struct attr *ret);
/* Before the store is asked about path (or listed: `path` is the directory). */
uint64_t meta_seq(struct meta *m, const char *path);
/* The store's answer; a == NULL: not there. */
void meta_put(struct meta *m, const char *path, bool dir, const struct attr *a, uint64_t seq);
/* The same for all names below any directory, to be looked at later: seqs[meta_slot(path)]. */
#define META_SEQS 1024
unsigned meta_slot(const char *path);
void meta_seqs(struct meta *m, uint64_t ret[META_SEQS]);
/* What a listing that was begun at at_ns told of one name; no ticket. False: it has
 * changed since `seq`, or something younger is known. */
bool meta_put_listed(struct meta *m, const char *path, const struct attr *a, uint64_t seq,
                     uint64_t at_ns);
/* A change of our own: the name is now this, or (NULL) must be asked for again. */
void meta_own(struct meta *m, const char *path, const struct attr *a);
/* Attributes changed, not names: listings of the parent know an old version of it. */
void meta_forget(struct meta *m, const char *path); /* NULL: all */
void meta_forget_tree(struct meta *m, const char *dir); /* the directory and all below */

struct listing *meta_listing(struct meta *m, const char *dir, uint64_t max_age_ms); /* or NULL */
void meta_listing_put(struct meta *m, const char *dir, struct listing *l, uint64_t seq);
/* Completes a listed attr without ATTR_META by what is known of the same version. */
void meta_fill(struct meta *m, const char *path, struct attr *a);

/* While the store is away: answers of any age, from SQLite too. */
enum meta_answer meta_get_offline(struct meta *m, const char *path, bool dir, struct attr *ret);
struct listing *meta_listing_offline(struct meta *m, const char *dir);

#endif
