/* SPDX-License-Identifier: MIT
 * xml.h: the XML of storage services: reading replies by events, or one field of them, and writing text.
 *
 * Replies are hostile: a document type ends the parse (no entities, nothing to fetch), depth and the text
 * of one element are capped, the size was capped by the HTTP client. Pure functions. Threads: any.
 * Errors: -EBADMSG for what is malformed, too deep or has a document type. */
#ifndef QUAY_BACKENDS_XML_H
#define QUAY_BACKENDS_XML_H

#include "base/buf.h"

#include <stdbool.h>

struct xml_events {
    /* Depth 1 is the root. `name` has no namespace prefix. text: characters right inside this
     * element. Each may be NULL. */
    void (*open)(void *arg, int depth, const char *name);
    void (*close)(void *arg, int depth, const char *name, const char *text, size_t len);
};
int xml_parse(const char *data, size_t len, const struct xml_events *ev, void *arg);
/* Text of the first element of this name below the root, malloc'd; NULL: none or malformed. */
char *xml_field(const char *data, size_t len, const char *name);
void xml_escape(struct buf *b, const char *s);
/* Can every byte be written in XML 1.0? */
bool xml_can_hold(const char *s);

#endif
