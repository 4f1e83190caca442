/* SPDX-License-Identifier: MIT
 * reply.h: a whole class of store against a server that answers what the input says.
 *
 * The input: a line "CONFIG OPERATIONS" (a digit, and letters as in drive.h), then the replies in the order in
 * which they are given, each ended by the byte 0x1e: a line with the status (0: the connection is lost), header
 * lines, an empty line, the body. http_do() is replaced when the target is linked (--wrap): everything behind it is
 * the real code, and what http.h guarantees of a reply holds. Waits take no time. When there are no more replies
 * every request fails.
 *
 *     return reply_fuzz(&(struct reply_case){&s3_class, configs, ARRAY_LEN(configs)}, data, size); */
#ifndef QUAY_TESTS_FUZZ_REPLY_H
#define QUAY_TESTS_FUZZ_REPLY_H

#include "backends/store.h"
#include "tests/fuzz/fuzz.h"

struct reply_case {
    const struct store_class *cls;
    const char *const *configs; /* lines of a [store] section */
    size_t n_configs;
};

int reply_fuzz(const struct reply_case *rc, const uint8_t *data, size_t size);

#endif
